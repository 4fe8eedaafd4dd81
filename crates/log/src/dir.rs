//! A log directory: who it belongs to, whether it was left in order, and what is in it.

mod reader;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use klamm_env::Files;
use klamm_env::files::{File, Lock, Space, Volume, is_out_of_descriptors};
use uuid::Uuid;

use crate::checkpoint::{encode_offsets, replace_file_unsynced};
use crate::error::{LogDirError, Offline};
use crate::files::Place;
use crate::names::{TopicPartition, uuid_to_base64};
use crate::new_files::NewFiles;
use crate::open_files::OpenFiles;
use crate::properties::Properties;

use crate::progress::Progress;
use crate::recovery::{RecoveryReport, read_topic_id};
use crate::room::Room;
pub(crate) use reader::Reader;

const LOCK: &str = ".lock";
pub(crate) const META: &str = "meta.properties";
pub(crate) const REGISTRATION: &str = "klamm.registration";
pub(crate) const CLEAN_MARKER: &str = "klamm.clean";
const OFFLINE_MARKER: &str = "klamm.offline";
pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
pub(crate) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";

/// What `meta.properties` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster that the data belongs to.
    pub cluster_id: String,
    /// The broker that the data belongs to.
    pub broker_id: i32,
    /// Names this directory.
    pub directory_id: Uuid,
}

/// One registration of a broker process (CLUSTER.md R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredPair {
    /// The epoch that the registration had.
    pub broker_epoch: i64,
    /// The process start that registered.
    pub incarnation: Uuid,
}

/// A registration as a directory remembers it. What belongs to one registration is kept with it: the
/// directories and the boot of a later attempt say nothing about an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirRegistration {
    /// Which one.
    pub pair: RegisteredPair,
    /// All log directories that belonged to it.
    pub directories: Vec<Uuid>,
    /// The boot of the machine that it was tried in.
    pub boot_id: String,
}

/// What the registration file says (R2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The last registration that is known to have succeeded.
    pub registered: Option<DirRegistration>,
    /// The last that was tried.
    pub attempted: Option<DirRegistration>,
}

/// A log directory as it was before this process wrote to it; what R2 judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDir {
    /// Where it is.
    pub path: PathBuf,
    /// `meta.properties`; `None` for a new directory.
    pub meta: Option<MetaProperties>,
    /// The registration file.
    pub registration: Option<Registration>,
    /// The clean marker.
    pub clean_marker: Option<RegisteredPair>,
    /// The boot in which an I/O error took the directory offline.
    pub offline_boot_id: Option<String>,
    /// Partitions with a recovery point above their log start whose directory is missing.
    pub missing: Vec<TopicPartition>,
}

#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    pub(crate) recovery_points: BTreeMap<TopicPartition, i64>,
    pub(crate) log_starts: BTreeMap<TopicPartition, i64>,
    pub(crate) high_watermarks: BTreeMap<TopicPartition, i64>,
    pub(crate) cleaner_offsets: BTreeMap<TopicPartition, i64>,
}

/// A log directory that this process holds the lock of.
pub struct LogDir {
    files: Arc<dyn Files>,
    path: PathBuf,
    found: FoundDir,
    boot_id: String,
    volume: Arc<dyn Volume>,
    open_files: Arc<OpenFiles>,
    new_files: NewFiles,
    room: Room,
    partitions: Vec<TopicPartition>,
    progress: Progress,
    others: Vec<String>,
    checkpoints: Mutex<Checkpoints>,
    /// Held while a checkpoint file is written, so that no older one comes last.
    writing: Mutex<()>,
    /// Held while a partition's directory is looked at and then renamed.
    renaming: Mutex<()>,
    offline: OnceLock<Arc<str>>,
    /// Told once, when the directory goes offline.
    offline_listener: OnceLock<Box<dyn Fn() + Send + Sync>>,
    _lock: Box<dyn Lock>,
}

/// Creates `path` and what is missing above it. The names above `path` are durable when it returns;
/// its own is the caller's to sync, who may also find it made and not synced.
fn create_below_durable(files: &dyn Files, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for dir in path.ancestors().take_while(|dir| !dir.as_os_str().is_empty()) {
        if files.metadata(dir)?.is_some() {
            break;
        }
        missing.push(dir);
    }
    if !missing.is_empty() {
        files.create_dir_all(path)?;
    }
    let parents = missing.iter().skip(1).filter_map(|dir| dir.parent());
    parents.filter(|dir| !dir.as_os_str().is_empty()).try_for_each(|dir| files.sync_dir(dir))
}

impl LogDir {
    /// Takes the directory at `path`, created when missing, and reads what it says about itself.
    /// No log is opened, nothing but the lock file is written.
    ///
    /// # Errors
    /// When another process has it, or its files cannot be read.
    pub fn open(files: Arc<dyn Files>, path: &Path) -> Result<LogDir, LogDirError> {
        let io = |error| LogDirError::Io { path: path.display().to_string(), error };
        create_below_durable(&*files, path).map_err(io)?;
        // A process that was killed may have made the directory and not synced its name.
        let is_new = files.metadata(&path.join(META)).map_err(io)?.is_none();
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
            && is_new
        {
            files.sync_dir(parent).map_err(io)?;
        }
        let Some(lock) = files.lock(&path.join(LOCK)).map_err(io)? else {
            return Err(LogDirError::InUse { path: path.display().to_string() });
        };
        // The descriptor must be older than the first write, or it would not see its error (R23).
        let volume = files.volume(path).map_err(io)?;
        let boot_id = files.boot_id();
        let reader = Reader { files: &*files, path };
        let mut checkpoints = reader.checkpoints()?;
        let (partitions, others) = reader.directories()?;
        let found = reader.found(&checkpoints, &partitions)?;
        // A later partition of the same name must not begin where one that is gone ended.
        let here = |partition: &TopicPartition| partitions.binary_search(partition).is_ok();
        checkpoints.log_starts.retain(|partition, _| here(partition));
        checkpoints.high_watermarks.retain(|partition, _| here(partition));
        checkpoints.cleaner_offsets.retain(|partition, _| here(partition));
        let dir = LogDir {
            path: path.to_owned(),
            boot_id,
            volume,
            open_files: Arc::default(),
            new_files: NewFiles::default(),
            room: Room::default(),
            progress: Progress::begin(path, &partitions, found.clean_marker.is_some()),
            found,
            partitions,
            others,
            checkpoints: Mutex::new(checkpoints),
            writing: Mutex::new(()),
            renaming: Mutex::new(()),
            offline: OnceLock::new(),
            offline_listener: OnceLock::new(),
            _lock: lock,
            files,
        };
        Ok(dir)
    }

    /// Segment files of this directory count towards the bound of `open_files` instead of one of its
    /// own. To be called before a log is opened.
    #[must_use]
    pub fn with_open_files(mut self, open_files: Arc<OpenFiles>) -> LogDir {
        self.open_files = open_files;
        self
    }

    /// The segment files that are open.
    pub fn open_files(&self) -> &Arc<OpenFiles> {
        &self.open_files
    }

    pub(crate) fn new_files(&self) -> &NewFiles {
        &self.new_files
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file systems.
    pub fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// The directory as it was when this process took it.
    pub fn found(&self) -> &FoundDir {
        &self.found
    }

    /// This boot of the machine.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Refuses a directory of another cluster or broker.
    ///
    /// # Errors
    /// [`LogDirError::Foreign`].
    pub fn check_owner(&self, cluster_id: &str, broker_id: i32) -> Result<(), LogDirError> {
        let Some(meta) = &self.found.meta else {
            return Ok(());
        };
        let foreign = |found: String, expected: String| {
            Err(LogDirError::Foreign { path: self.path.display().to_string(), found, expected })
        };
        if meta.cluster_id != cluster_id {
            return foreign(
                format!("cluster {}", meta.cluster_id),
                format!("cluster {cluster_id}"),
            );
        }
        if meta.broker_id != broker_id {
            return foreign(format!("broker {}", meta.broker_id), format!("broker {broker_id}"));
        }
        Ok(())
    }

    /// The partitions whose logs were here when the directory was taken.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Other directories: those that wait to be removed, strays, and what is not ours.
    pub fn other_directories(&self) -> &[String] {
        &self.others
    }

    /// Writes `meta.properties`, for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_meta(&self, meta: &MetaProperties) -> io::Result<()> {
        let mut properties = Properties::default();
        properties.set("cluster.id", &meta.cluster_id);
        properties.set("directory.id", &uuid_to_base64(meta.directory_id));
        properties.set("node.id", &meta.broker_id.to_string());
        properties.set("version", "1");
        self.replace(META, properties.encode().as_bytes())
    }

    /// Writes the registration file, for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_registration(&self, registration: &Registration) -> io::Result<()> {
        let mut properties = Properties::default();
        properties.set("version", "1");
        set_registration(&mut properties, "registered", registration.registered.as_ref());
        set_registration(&mut properties, "attempted", registration.attempted.as_ref());
        self.replace(REGISTRATION, properties.encode_checked().as_bytes())
    }

    /// Leaves the clean marker, for good. All logs are synced and the checkpoints written before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_clean_marker(&self, registered: RegisteredPair) -> io::Result<()> {
        let mut properties = Properties::default();
        properties.set("version", "1");
        set_pair(&mut properties, "registered", Some(registered));
        self.replace(CLEAN_MARKER, properties.encode_checked().as_bytes())
    }

    /// Removes the clean marker, for good; before anything else is served.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_clean_marker(&self) -> io::Result<()> {
        match self.files.remove_file(&self.path.join(CLEAN_MARKER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.fail(error)),
            Ok(()) => {}
        }
        self.sync_names()
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync_names(&self) -> io::Result<()> {
        self.sync_folder(&self.path).map_err(|error| self.fail(error))
    }

    /// Makes the names in a folder of this directory durable. Without a descriptor for the folder,
    /// the volume, which is open, is synced instead.
    ///
    /// # Errors
    /// When the disk fails; for want of a descriptor where the volume cannot be synced as a whole.
    pub(crate) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match self.files.sync_dir(folder) {
            Err(error) if is_out_of_descriptors(&error) => {
                // Its error may be a stranger's: the folder's own is told when it can be opened.
                self.volume.sync_all().map_err(|_| error)
            }
            done => done,
        }
    }

    /// Makes everything written to the file system durable.
    ///
    /// # Errors
    /// As [`Volume::sync_all`]; an error may be a stranger's, so the directory is not taken
    /// offline for it: sync the dirty files one by one instead.
    pub fn sync_volume(&self) -> io::Result<()> {
        self.volume.sync_all()
    }

    /// Free and total bytes of the file system.
    ///
    /// # Errors
    /// As [`Volume::space`].
    pub fn space(&self) -> io::Result<Space> {
        self.volume.space()
    }

    /// Whether `bytes` more may be appended here: ends before the disk is full.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.room.take(bytes, &*self.volume)
    }

    /// The first I/O error of this process here.
    pub fn offline(&self) -> Option<Offline> {
        self.offline.get().map(|reason| Offline { reason: Arc::clone(reason) })
    }

    /// Calls `listener` once the directory is offline, at once if it is already; it may be called
    /// again, and under the lock of any log. To be set once.
    pub fn on_offline(&self, listener: impl Fn() + Send + Sync + 'static) {
        let listener = self.offline_listener.get_or_init(|| Box::new(listener));
        if self.offline.get().is_some() {
            listener();
        }
    }

    /// Takes the directory offline for the life of this process, and leaves a marker so that the
    /// next one in this boot does not trust what a failed write may have left in the page cache.
    pub fn take_offline(&self, reason: &str) {
        let mut first = false;
        self.offline.get_or_init(|| {
            first = true;
            reason.into()
        });
        if !first {
            return;
        }
        tracing::error!(dir = %self.path.display(), reason, "log directory is offline");
        if let Some(listener) = self.offline_listener.get() {
            listener();
        }
        let mut properties = Properties::default();
        properties.set("version", "1");
        properties.set("boot.id", &self.boot_id);
        let content = properties.encode_checked();
        let path = self.path.join(OFFLINE_MARKER);
        // Not synced: it speaks of this boot only, and of a disk whose syncs fail.
        let unsynced = |_: &dyn File| Ok(());
        let left = replace_file_unsynced(&*self.files, &path, content.as_bytes(), unsynced);
        if let Err(error) = left {
            // Nothing more can be done on a disk that fails.
            tracing::error!(dir = %self.path.display(), %error, "offline marker not written");
        }
    }

    /// Whether an earlier process of this boot left the directory after an I/O error: what lies
    /// past the recovery points must be written anew before it is trusted.
    pub fn distrusts_page_cache(&self) -> bool {
        self.found.offline_boot_id.as_ref() == Some(&self.boot_id)
    }

    /// Takes the directory offline, unless nothing was tried for want of a descriptor.
    fn fail(&self, error: io::Error) -> io::Error {
        if !is_out_of_descriptors(&error) {
            self.take_offline(&error.to_string());
        }
        error
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let written = replace_file_unsynced(&*self.files, &path, content, |file| file.sync_data())
            .and_then(|()| self.sync_folder(&self.path));
        written.map_err(|error| match error.kind() {
            // Room may come back; the old file is still there.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => error,
            _ => self.fail(error),
        })
    }

    fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the recovery of a log begins.
    pub fn recovery_point(&self, partition: &TopicPartition) -> i64 {
        self.checkpoints().recovery_points.get(partition).copied().unwrap_or(0)
    }

    pub(crate) fn set_recovery_point(&self, partition: &TopicPartition, offset: i64) {
        set(&mut self.checkpoints().recovery_points, partition, offset);
    }

    /// The first offset that a log may show, as last noted.
    pub fn log_start_offset(&self, partition: &TopicPartition) -> i64 {
        self.checkpoints().log_starts.get(partition).copied().unwrap_or(0)
    }

    pub(crate) fn set_log_start_offset(&self, partition: &TopicPartition, offset: i64) {
        set(&mut self.checkpoints().log_starts, partition, offset);
    }

    /// The high watermark of a replica, as last noted.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.checkpoints().high_watermarks.get(partition).copied()
    }

    /// Notes the high watermark of a replica; [`LogDir::write_high_watermarks`] stores it.
    pub fn set_high_watermark(&self, partition: &TopicPartition, offset: i64) {
        set(&mut self.checkpoints().high_watermarks, partition, offset);
    }

    /// Up to where a log was cleaned, as last noted.
    pub fn cleaner_offset(&self, partition: &TopicPartition) -> i64 {
        self.checkpoints().cleaner_offsets.get(partition).copied().unwrap_or(0)
    }

    /// Notes up to where a log was cleaned; [`LogDir::write_cleaner_offsets`] stores it. Nothing is
    /// noted for a log that never was.
    pub(crate) fn set_cleaner_offset(&self, partition: &TopicPartition, offset: i64) {
        let offsets = &mut self.checkpoints().cleaner_offsets;
        if offset > 0 || offsets.contains_key(partition) {
            set(offsets, partition, offset);
        }
    }

    /// Forgets all checkpoints of a partition; its directory is about to be renamed or is gone.
    pub fn forget(&self, partition: &TopicPartition) {
        let mut checkpoints = self.checkpoints();
        checkpoints.recovery_points.remove(partition);
        checkpoints.log_starts.remove(partition);
        checkpoints.high_watermarks.remove(partition);
        checkpoints.cleaner_offsets.remove(partition);
        drop(checkpoints);
        self.progress.gone(&self.path, partition);
    }

    /// A log of this directory is open.
    pub(crate) fn recovered(&self, partition: &TopicPartition, report: &RecoveryReport) {
        self.progress.recovered(&self.path, partition, report);
    }

    /// Gives the directory of a partition that nobody knows another name, for good: it is kept
    /// for a while (R28). With `unless`, only if it belongs to another topic than that one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_aside(
        &self,
        partition: &TopicPartition,
        unless: Option<Uuid>,
        unique: Uuid,
    ) -> io::Result<Option<PathBuf>> {
        let _renaming = self.renaming.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.path.join(partition.dir_name()).into();
        let open_files = Arc::clone(&self.open_files);
        let place = Place { files: Arc::clone(&self.files), dir, open_files };
        if unless.is_some() && read_topic_id(&place)? == unless {
            return Ok(None);
        }
        self.rename_aside(partition, &place, &partition.stray_dir_name(unique)).map(Some)
    }

    /// Gives the directory of a deleted partition the name that it waits under, for good.
    pub(crate) fn rename_deleted(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        place: &Place,
        unique: Uuid,
    ) -> io::Result<PathBuf> {
        let _renaming = self.renaming.lock().unwrap_or_else(PoisonError::into_inner);
        if read_topic_id(place)? != Some(topic_id) {
            // The next topic of that name has put this one aside already.
            return Err(io::Error::other("the directory is another topic's by now"));
        }
        self.rename_aside(partition, place, &partition.deleted_dir_name(unique))
    }

    fn rename_aside(
        &self,
        partition: &TopicPartition,
        place: &Place,
        name: &str,
    ) -> io::Result<PathBuf> {
        // The recovery point goes first: a directory that is missing below one counts as lost.
        // So does the log's start: the next topic of the name must not begin there after a crash.
        let stored = (self.recovery_point(partition) > 0, self.log_start_offset(partition) > 0);
        self.forget(partition);
        if stored.0 {
            self.write_recovery_points()?;
        }
        if stored.1 {
            self.write_log_start_offsets()?;
        }
        let renamed = self.path.join(name);
        self.files.rename(&place.dir, &renamed)?;
        self.sync_names()?;
        Ok(renamed)
    }

    /// Stores the recovery points, for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_recovery_points(&self) -> io::Result<()> {
        self.write_offsets(RECOVERY_POINTS, |checkpoints| &checkpoints.recovery_points)
    }

    /// Stores the log start offsets, for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_log_start_offsets(&self) -> io::Result<()> {
        self.write_offsets(LOG_STARTS, |checkpoints| &checkpoints.log_starts)
    }

    /// Stores the high watermarks, for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_high_watermarks(&self) -> io::Result<()> {
        self.write_offsets(HIGH_WATERMARKS, |checkpoints| &checkpoints.high_watermarks)
    }

    /// Stores the offsets up to which logs were cleaned, for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_cleaner_offsets(&self) -> io::Result<()> {
        self.write_offsets(CLEANER_OFFSETS, |checkpoints| &checkpoints.cleaner_offsets)
    }

    fn write_offsets(
        &self,
        name: &str,
        pick: impl Fn(&Checkpoints) -> &BTreeMap<TopicPartition, i64>,
    ) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = encode_offsets(pick(&self.checkpoints()));
        self.replace(name, text.as_bytes())
    }
}

impl std::fmt::Debug for LogDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDir").field("path", &self.path).finish_non_exhaustive()
    }
}

fn set(offsets: &mut BTreeMap<TopicPartition, i64>, partition: &TopicPartition, offset: i64) {
    match offsets.get_mut(partition) {
        Some(known) => *known = offset,
        None => {
            offsets.insert(partition.clone(), offset);
        }
    }
}

fn set_registration(
    properties: &mut Properties,
    name: &str,
    registration: Option<&DirRegistration>,
) {
    let Some(registration) = registration else { return };
    set_pair(properties, name, Some(registration.pair));
    let ids: Vec<_> = registration.directories.iter().map(|id| uuid_to_base64(*id)).collect();
    properties.set(&format!("{name}.directories"), &ids.join(","));
    properties.set(&format!("{name}.boot.id"), &registration.boot_id);
}

fn set_pair(properties: &mut Properties, name: &str, pair: Option<RegisteredPair>) {
    if let Some(pair) = pair {
        properties.set(&format!("{name}.broker.epoch"), &pair.broker_epoch.to_string());
        properties.set(&format!("{name}.incarnation"), &uuid_to_base64(pair.incarnation));
    }
}
