use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use klamm_env::Env;
use klamm_env::files::{DirEntry, File, Files, Lock, Metadata, OpenMode, Volume};
use klamm_protocol::compression::Compression;
use klamm_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use klamm_protocol::messages::metadata::MetadataResponsePartition;
use klamm_protocol::messages::{DescribeLogDirsRequest, ListOffsetsRequest, MetadataRequest};
use klamm_protocol::records::{BatchBuilder, NewRecord};
use tempfile::TempDir;

use crate::broker::{TestBroker, eventually, start_in};
use crate::socket::{batch, records};

const BROKER: i32 = 1;
const STORAGE_ERROR: i16 = 56;
const LEADER_NOT_AVAILABLE: i16 = 5;
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";

/// So many syncs below `dir` fail; each is counted, and so are bytes that are written.
#[derive(Debug, Default)]
struct Syncs {
    fail: AtomicU64,
    failed: AtomicU64,
    written: AtomicU64,
}

struct FailingFiles {
    inner: Arc<dyn Files>,
    dir: PathBuf,
    syncs: Arc<Syncs>,
}

impl Syncs {
    fn check(&self) -> io::Result<()> {
        let (order, next) = (Ordering::SeqCst, |left: u64| left.checked_sub(1));
        if self.fail.fetch_update(order, order, next).is_err() {
            return Ok(());
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::other("the disk is broken"))
    }
}

impl Files for FailingFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.inner.open(path, mode)?;
        let syncs = Arc::clone(&self.syncs);
        Ok(match path.starts_with(&self.dir) {
            true => Arc::new(FailingFile { file, syncs }),
            false => file,
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.inner.metadata(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.starts_with(&self.dir) {
            self.syncs.check()?;
        }
        self.inner.sync_dir(dir)
    }

    fn volume(&self, dir: &Path) -> io::Result<Arc<dyn Volume>> {
        Ok(Arc::new(FileByFile(self.inner.volume(dir)?)))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock(path)
    }

    fn boot_id(&self) -> String {
        self.inner.boot_id()
    }
}

/// A volume that cannot be synced as a whole.
struct FileByFile(Arc<dyn Volume>);

impl Volume for FileByFile {
    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn space(&self) -> io::Result<klamm_env::files::Space> {
        self.0.space()
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn File>,
    syncs: Arc<Syncs>,
}

impl File for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.syncs.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        self.file.write_all_at(bytes, offset)
    }

    fn write_vectored_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_vectored_all_at(parts, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.check()?;
        self.file.sync_data()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
}

fn broker(root: &Path) -> (TestBroker, Arc<Syncs>) {
    broker_with(root, &[])
}

/// A broker that starts well; then the next `fail` syncs fail.
fn broker_from(root: &Path, fail: u64) -> (TestBroker, Arc<Syncs>) {
    let (broker, syncs) = broker(root);
    syncs.fail.store(fail, Ordering::SeqCst);
    (broker, syncs)
}

fn broker_with(root: &Path, set: &[(&str, &str)]) -> (TestBroker, Arc<Syncs>) {
    let syncs = Arc::new(Syncs::default());
    let mut env = Env::real().expect("an environment");
    let inner = Arc::clone(&env.files);
    let dir = root.join("b");
    env.files = Arc::new(FailingFiles { inner, dir, syncs: Arc::clone(&syncs) });
    let dirs = format!("{},{}", root.join("a").display(), root.join("b").display());
    (start_in(env, &dirs, set), syncs)
}

fn latest_offset(broker: &TestBroker, index: i32) -> i16 {
    let partition =
        ListOffsetsPartition { partition_index: index, timestamp: -1, current_leader_epoch: -1 };
    let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    broker.connect().call(6, &request).topics[0].partitions[0].error_code
}

#[test]
fn hazards_43_and_44_a_failed_sync_takes_one_directory_offline_and_everybody_is_told() {
    let root = TempDir::new().expect("a directory");
    let (broker, syncs) = broker(root.path());
    broker.topic("t", 6, &[]);
    let mut socket = broker.connect();
    for index in 0..6 {
        assert_eq!(socket.produce("t", index, -1, batch(&[b"before"])).error_code, 0);
    }
    syncs.fail.store(u64::MAX, Ordering::SeqCst);
    let begun = Instant::now();
    let answers: Vec<i16> =
        (0..6).map(|index| socket.produce("t", index, -1, batch(&[b"after"])).error_code).collect();
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for a dead disk");
    let failing = |code: &i16| *code == STORAGE_ERROR;
    assert_eq!(answers.iter().filter(|code| failing(code)).count(), 3, "{answers:?}");
    assert_eq!(answers.iter().filter(|code| **code == 0).count(), 3, "{answers:?}");
    let failed = syncs.failed.load(Ordering::SeqCst);
    for (index, answer) in (0..).zip(&answers) {
        let again = socket.produce("t", index, 1, batch(&[b"again"])).error_code;
        assert_eq!(again, *answer, "acks=1 is refused as well");
        let data = socket.fetch("t", index, 0, 0);
        assert_eq!((data.error_code, latest_offset(&broker, index)), (*answer, *answer));
        if *answer == 0 {
            assert!(records(&data).len() >= 2, "the other directory serves on");
        }
    }
    let found = socket.call(4, &DescribeLogDirsRequest { topics: None });
    let codes: Vec<i16> = found.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, STORAGE_ERROR]);
    eventually("the tree says that nobody leads what is on the dead disk", || {
        metadata(&broker).iter().zip(&answers).all(|(state, answer)| match answer {
            0 => state.leader_id == BROKER && state.error_code == 0,
            _ => state.leader_id == -1 && state.error_code == LEADER_NOT_AVAILABLE,
        })
    });
    for (state, answer) in metadata(&broker).iter().zip(&answers) {
        let offline: &[i32] = if *answer == 0 { &[] } else { &[BROKER] };
        assert_eq!(state.offline_replicas, offline, "{state:?}");
        let again = socket.produce("t", state.partition_index, -1, batch(&[b"later"])).error_code;
        assert_eq!(again, *answer, "the disk is at fault, not the client's metadata");
    }
    assert_eq!(syncs.failed.load(Ordering::SeqCst), failed, "no sync is tried again");
}

/// The partitions of `t`, in order.
fn metadata(broker: &TestBroker) -> Vec<MetadataResponsePartition> {
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let mut topics = broker.connect().call(9, &request).topics;
    let mut partitions = topics.remove(0).partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    partitions
}

#[test]
fn hazard_96_after_a_restart_in_the_same_boot_a_failed_disk_serves_only_what_was_written_anew() {
    const BYTES: usize = 100_000;
    let root = TempDir::new().expect("a directory");
    let (broker, syncs) = broker(root.path());
    broker.topic("t", 2, &[]);
    let mut socket = broker.connect();
    for index in 0..2 {
        assert_eq!(socket.produce("t", index, -1, batch(&[b"before"])).error_code, 0);
    }
    syncs.fail.store(u64::MAX, Ordering::SeqCst);
    let lost = batch(&[&[7; BYTES]]);
    let answers = [0, 1].map(|index| socket.produce("t", index, -1, lost.clone()).error_code);
    let index = i32::from(answers == [0, STORAGE_ERROR]);
    assert!(answers.contains(&STORAGE_ERROR) && answers.contains(&0), "{answers:?}");
    broker.stop();
    // The page cache still has what was never synced; the disk goes on failing.
    let (broker, syncs) = broker_from(root.path(), u64::MAX);
    assert_eq!(broker.connect().fetch("t", index, 0, 0).error_code, STORAGE_ERROR);
    assert_eq!(broker.connect().fetch("t", 1 - index, 0, 0).error_code, 0);
    eventually("nobody leads there", || {
        metadata(&broker).iter().all(|state| {
            state.leader_id == if state.partition_index == index { -1 } else { BROKER }
        })
    });
    assert!(syncs.failed.load(Ordering::SeqCst) > 0, "the rest was not even tried");
    broker.stop();
    let (broker, syncs) = broker_from(root.path(), 0);
    syncs.written.store(0, Ordering::SeqCst);
    let fetched = broker.connect().fetch("t", index, 0, 0);
    assert_eq!((fetched.error_code, records(&fetched).len()), (0, 2));
    let written = syncs.written.load(Ordering::SeqCst);
    assert!(written >= BYTES as u64, "{written} bytes: the disk was never given the rest");
    assert!(metadata(&broker).iter().all(|state| state.leader_id == BROKER));
}

#[test]
fn a_sync_that_fails_while_a_log_is_compacted_takes_its_directory_offline() {
    let root = TempDir::new().expect("a directory");
    let (broker, syncs) = broker_with(root.path(), &[("log.cleaner.backoff.ms", "20")]);
    broker.topic("t", 2, &[("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.1")]);
    let mut socket = broker.connect();
    for index in 0..2 {
        for _ in 0..3 {
            let value = vec![0; 500_000];
            assert_eq!(socket.produce("t", index, -1, keyed(&value)).error_code, 0);
        }
    }
    // From here on a checkpoint syncs nothing: the first sync below the directory is the cleaner's.
    eventually("the full segments lie below stored recovery points", || {
        let stored = ["a", "b"].map(|dir| root.path().join(dir).join(RECOVERY_POINTS));
        let texts = stored.map(|path| std::fs::read_to_string(path).unwrap_or_default()).concat();
        texts.contains("t 0 3\n") && texts.contains("t 1 3\n")
    });
    syncs.fail.store(1, Ordering::SeqCst);
    assert_eq!(crate::compaction::set_config(&mut socket, "t", "cleanup.policy", "compact"), 0);
    eventually("nothing is read there any more", || {
        (0..2).any(|index| socket.fetch("t", index, 0, 0).error_code == STORAGE_ERROR)
    });
}

fn keyed(value: &[u8]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    let record = NewRecord { key: Some(b"k"), value: Some(value), ..Default::default() };
    builder.append(&record).expect("room");
    builder.build().expect("builds")
}
