//! Data directories, settings and ports that a broker must not start on.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::broker_process::{BrokerProcess, Ended, Launch, batch};

/// A directory that a broker has used: topic `t` holds one record.
fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("t", 1);
    client.produce("t", &batch(b"kept"));
    broker.stop_cleanly();
    dir
}

fn assert_intact(dir: &Path) {
    let broker = BrokerProcess::start(dir);
    let records = broker.connect().read_all("t", 0);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].1[..], b"kept"[..]);
}

#[track_caller]
fn assert_says(ended: &Ended, words: &[&str]) {
    let complaint = ended.complaint();
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in {complaint:?}");
    }
}

/// Nothing below `dir` has changed since.
#[track_caller]
fn assert_unchanged(dir: &Path, before: &[(PathBuf, Vec<u8>)]) {
    let now = contents(dir);
    let differ: Vec<_> = now.iter().filter(|file| !before.contains(file)).collect();
    let gone: Vec<_> = before.iter().filter(|file| !now.contains(file)).collect();
    assert!(differ.is_empty() && gone.is_empty(), "now {differ:?}, before {gone:?}");
}

/// Every file below `dir` but the lock, with its content.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if path.file_name().is_some_and(|name| name != ".lock") {
            all.push((path.clone(), fs::read(&path).expect("readable")));
        }
    }
    all.sort();
    all
}

/// Replaces what a line of a properties file says.
fn edit(path: &Path, key: &str, value: &str) {
    let text = fs::read_to_string(path).expect("readable");
    assert!(text.lines().any(|line| line.starts_with(&format!("{key}="))), "{key} in {text}");
    let edited = text.lines().map(|line| match line.split_once('=') {
        Some((name, _)) if name == key => format!("{key}={value}\n"),
        _ => format!("{line}\n"),
    });
    fs::write(path, edited.collect::<String>()).expect("writable");
}

#[test]
fn a_directory_of_another_cluster_or_broker_is_refused_and_left_alone() {
    let dir = used();
    let meta = dir.path().join("meta.properties");
    let original = fs::read(&meta).expect("readable");
    for (key, value) in [("cluster.id", "AAAAAAAAAAAAAAAAAAAAAQ"), ("node.id", "77")] {
        edit(&meta, key, value);
        let before = contents(dir.path());
        let ended = Launch::on(dir.path()).refused();
        assert_says(&ended, &[&dir.path().display().to_string(), value]);
        assert_unchanged(dir.path(), &before);
        fs::write(&meta, &original).expect("writable");
    }
    assert_intact(dir.path());
}

#[test]
fn another_broker_id_than_before_is_refused() {
    let dir = used();
    let before = contents(dir.path());
    let ended = Launch::on(dir.path()).set("node.id=5").refused();
    assert_says(&ended, &[&dir.path().display().to_string(), "5"]);
    assert_unchanged(dir.path(), &before);
    assert_intact(dir.path());
}

#[test]
fn a_directory_in_use_is_refused_and_its_broker_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = BrokerProcess::start(dir.path());
    let mut client = broker.connect();
    client.create_topic("t", 1);
    client.produce("t", &batch(b"kept"));
    for _ in 0..3 {
        let ended = Launch::on(dir.path()).refused();
        assert_says(&ended, &[&dir.path().display().to_string(), "in use"]);
    }
    client.produce("t", &batch(b"more"));
    assert_eq!(client.read_all("t", 0).len(), 2);
    let launch = broker.stop_cleanly();
    assert_eq!(launch.start().connect().read_all("t", 0).len(), 2);
}

#[test]
fn a_port_in_use_is_refused_and_the_directory_still_works() {
    let dir = used();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let ended = Launch::on(dir.path()).listen(&address.to_string()).refused();
    assert_says(&ended, &[&address.to_string(), "in use"]);
    assert_intact(dir.path());
    drop(taken);
    let broker = Launch::on(dir.path()).listen(&address.to_string()).start();
    assert_eq!(broker.address(), address);
    broker.assert_serves();
}

#[test]
fn what_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, b"not a directory").expect("writable");
    assert_says(&Launch::on(&file).refused(), &[&file.display().to_string()]);
    let below = file.join("below");
    assert_says(&Launch::on(&below).refused(), &[&below.display().to_string()]);
    assert_eq!(fs::read(&file).expect("still there"), b"not a directory");
    // Nobody, not even root, writes there.
    let unwritable = Path::new("/proc/klamm");
    assert_says(&Launch::on(unwritable).refused(), &["/proc/klamm"]);
}

#[test]
fn a_directory_that_does_not_exist_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("a/b/c");
    Launch::on(&deep).start().assert_serves();
    assert!(deep.join("meta.properties").is_file());
}

#[test]
fn a_damaged_meta_properties_or_registration_is_refused_and_left_alone() {
    let dir = used();
    for name in ["meta.properties", "klamm.registration"] {
        let path = dir.path().join(name);
        let original = fs::read(&path).expect("there");
        for garbage in [&b"\xff\xfe\x00 garbage \x01\n\n=\n"[..], b"", b"version=99\n"] {
            fs::write(&path, garbage).expect("writable");
            let before = contents(dir.path());
            let ended = Launch::on(dir.path()).refused();
            assert_says(&ended, &[name]);
            assert_unchanged(dir.path(), &before);
        }
        fs::write(&path, original).expect("writable");
    }
    assert_intact(dir.path());
}

#[test]
fn a_format_of_the_future_is_refused() {
    let dir = used();
    let meta = dir.path().join("meta.properties");
    let original = fs::read(&meta).expect("readable");
    edit(&meta, "version", "2");
    let before = contents(dir.path());
    assert_says(&Launch::on(dir.path()).refused(), &["meta.properties"]);
    assert_unchanged(dir.path(), &before);
    fs::write(&meta, original).expect("writable");
    assert_intact(dir.path());
}

/// The files of the embedded tree that are not empty.
fn tree_files(dir: &Path) -> Vec<PathBuf> {
    let files = contents(&dir.join("klamm.tree")).into_iter();
    files.filter(|(_, content)| !content.is_empty()).map(|(path, _)| path).collect()
}

#[test]
fn a_damaged_tree_is_refused_and_left_alone() {
    let dir = used();
    for path in tree_files(dir.path()) {
        let original = fs::read(&path).expect("readable");
        let mut flipped = original.clone();
        flipped[20] ^= 0xff;
        let mut future = original.clone();
        future[3] += 1;
        let garbage = [&b"garbage from front to end "[..]; 20].concat();
        for damaged in [flipped, future, garbage] {
            fs::write(&path, damaged).expect("writable");
            let before = contents(dir.path());
            let ended = Launch::on(dir.path()).refused();
            assert_says(&ended, &["tree"]);
            assert_unchanged(dir.path(), &before);
            fs::write(&path, &original).expect("writable");
        }
    }
    assert_intact(dir.path());
}

#[test]
fn a_torn_end_of_the_trees_journal_is_cut_off() {
    let dir = used();
    for path in tree_files(dir.path()) {
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains("journal")) {
            let mut file = fs::OpenOptions::new().append(true).open(&path).expect("writable");
            file.write_all(&[0; 100]).expect("writable");
        }
    }
    assert_intact(dir.path());
    assert_intact(dir.path());
}

#[test]
fn a_tree_that_is_gone_while_logs_are_there_is_not_replaced_by_an_empty_one() {
    let dir = used();
    let aside = tempfile::tempdir().expect("a directory");
    let tree = aside.path().join("klamm.tree");
    move_dir(&dir.path().join("klamm.tree"), &tree);
    assert_says(&Launch::on(dir.path()).refused(), &["tree"]);
    fs::remove_dir_all(dir.path().join("klamm.tree")).expect("the beginning of a new one");
    move_dir(&tree, &dir.path().join("klamm.tree"));
    assert_intact(dir.path());
}

fn move_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for (path, content) in contents(from) {
        fs::write(to.join(path.file_name().expect("a file")), content).expect("writable");
    }
    fs::remove_dir_all(from).expect("writable");
}

#[test]
fn garbage_in_checkpoints_costs_a_recovery_and_nothing_else() {
    for garbage in [&b"\xff\xfe garbage"[..], b"", b"0\n99\nt 0 999999\n", b"7\n1\nt 0 0\n"] {
        for clean in [true, false] {
            let dir = tempfile::tempdir().expect("a directory");
            let broker = BrokerProcess::start(dir.path());
            let mut client = broker.connect();
            client.create_topic("t", 1);
            client.produce("t", &batch(b"kept"));
            if clean {
                drop(broker.stop_cleanly())
            } else {
                drop(broker.kill())
            }
            for name in [
                "recovery-point-offset-checkpoint",
                "replication-offset-checkpoint",
                "log-start-offset-checkpoint",
                "t-0/leader-epoch-checkpoint",
            ] {
                fs::write(dir.path().join(name), garbage).expect("writable");
            }
            assert_intact(dir.path());
        }
    }
}

#[test]
fn foreign_files_and_directories_are_left_alone() {
    let dir = used();
    let strays = ["notes.txt", "lost+found/x", "unknown-7/00000000000000000000.log"];
    for stray in strays {
        let path = dir.path().join(stray);
        fs::create_dir_all(path.parent().expect("below")).expect("writable");
        fs::write(path, b"mine").expect("writable");
    }
    assert_intact(dir.path());
    assert_eq!(fs::read(dir.path().join("notes.txt")).expect("kept"), b"mine");
    assert_eq!(fs::read(dir.path().join("lost+found/x")).expect("kept"), b"mine");
    let all = contents(dir.path());
    let kept = all.iter().filter(|(_, content)| content == b"mine").count();
    assert_eq!(kept, strays.len(), "a stray log is kept, if only aside");
}

#[test]
fn another_topics_log_in_a_topics_place_is_put_aside_and_never_served() {
    let dir = used();
    let path = dir.path().join("t-0/partition.metadata");
    edit_after_colon(&path, "topic_id", "AAAAAAAAAAAAAAAAAAAAAQ");
    let broker = BrokerProcess::start(dir.path());
    let fetched = broker.connect().fetch("t", 0, 0);
    assert!(fetched.records.is_empty(), "{fetched:?}");
    let held = |(_, content): &(PathBuf, Vec<u8>)| content.windows(4).any(|part| part == b"kept");
    assert!(contents(dir.path()).iter().any(held), "the other topic's records are gone");
    broker.assert_serves();
}

fn edit_after_colon(path: &Path, key: &str, value: &str) {
    let text = fs::read_to_string(path).expect("readable");
    let edited = text.lines().map(|line| match line.split_once(':') {
        Some((name, _)) if name == key => format!("{key}: {value}\n"),
        _ => format!("{line}\n"),
    });
    fs::write(path, edited.collect::<String>()).expect("writable");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let dir = used();
    let before = contents(dir.path());
    for (setting, words) in [
        ("num.partitions=many", ["num.partitions", "many"]),
        ("num.partitions=0", ["num.partitions", "0"]),
        ("flush=sometimes", ["flush", "sometimes"]),
        ("log.segment.bytes=-5", ["log.segment.bytes", "-5"]),
    ] {
        let ended = Launch::on(dir.path()).set(setting).refused();
        assert_says(&ended, &words);
    }
    for address in ["nonsense", "127.0.0.1:99999", "203.0.113.1:0", ":::"] {
        let ended = Launch::on(dir.path()).listen(address).refused();
        assert_says(&ended, &[address]);
    }
    let file = dir.path().with_extension("properties");
    fs::write(&file, "num.io.threads=3\nnum.partitions=x\n").expect("writable");
    let ended = Launch::on(dir.path()).config(&file).refused();
    assert_says(&ended, &["line 2", "num.partitions", &file.display().to_string()]);
    fs::remove_file(&file).expect("there");
    let ended = Launch::on(dir.path()).config(&file).refused();
    assert_says(&ended, &[&file.display().to_string()]);
    assert_unchanged(dir.path(), &before);
    assert_intact(dir.path());
}

#[test]
fn unknown_settings_are_reported_once_and_the_broker_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("server.properties");
    let text = "no.such.key=1\nnum.partitions=3\nbackground.threads=4\nno.such.key=2\n";
    fs::write(&file, text).expect("writable");
    let data = dir.path().join("data");
    let broker = Launch::on(&data).config(&file).set("nor.this.one=x").start();
    let mut client = broker.connect();
    let created = crate::broker_process::eventually("the topic", || {
        let topic = client.metadata("auto", true);
        (topic.error_code == 0).then_some(topic)
    });
    assert_eq!(created.partitions.len(), 3, "what is known holds");
    let stderr = broker.stderr();
    for key in ["no.such.key", "nor.this.one", "background.threads"] {
        let lines = stderr.lines().filter(|line| line.contains(key)).count();
        assert_eq!(lines, 1, "{key} in {stderr}");
    }
}
