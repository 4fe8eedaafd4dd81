//! What a log directory says about itself.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use fixture::{Fixture, append, batch, checkpoint};
use klamm_log::{
    DirRegistration, LogDir, LogDirError, MetaProperties, RegisteredPair, Registration,
};
use uuid::Uuid;

fn meta() -> MetaProperties {
    MetaProperties {
        cluster_id: "q1Sh-9_ISia_zwGINzRvyQ".to_owned(),
        broker_id: 7,
        directory_id: Uuid::from_u128(42),
    }
}

fn pair(broker_epoch: i64) -> RegisteredPair {
    RegisteredPair { broker_epoch, incarnation: Uuid::from_u128(5) }
}

fn open(fixture: &Fixture) -> Result<LogDir, LogDirError> {
    LogDir::open(fixture.files(), fixture.root.path())
}

#[test]
fn a_new_directory_has_nothing() {
    let fixture = Fixture::new();
    let dir = fixture.dir();
    let found = dir.found();
    assert_eq!((&found.meta, &found.registration, &found.clean_marker), (&None, &None, &None));
    assert!(found.missing.is_empty() && dir.partitions().is_empty());
    dir.check_owner("any", 1).expect("it is nobody's yet");
}

#[test]
fn a_directory_in_use_is_refused() {
    let fixture = Fixture::new();
    let held = fixture.dir();
    assert!(matches!(open(&fixture), Err(LogDirError::InUse { .. })));
    drop(held);
    open(&fixture).expect("free again");
}

#[test]
fn identity_is_read_back_and_strangers_are_refused() {
    let fixture = Fixture::new();
    fixture.dir().write_meta(&meta()).expect("written");
    let dir = fixture.dir();
    assert_eq!(dir.found().meta, Some(meta()));
    dir.check_owner(&meta().cluster_id, 7).expect("its own");
    let cluster = dir.check_owner("other", 7).expect_err("another cluster");
    assert!(cluster.to_string().contains("belongs to cluster q1Sh"), "{cluster}");
    let broker = dir.check_owner(&meta().cluster_id, 8).expect_err("another broker");
    assert!(broker.to_string().contains("belongs to broker 7"), "{broker}");
}

#[test]
fn registration_and_clean_marker_are_read_back() {
    let fixture = Fixture::new();
    let dir = fixture.dir();
    let directories = vec![Uuid::from_u128(42), Uuid::from_u128(43)];
    let boot_id = dir.boot_id().to_owned();
    let registration = Registration {
        registered: Some(DirRegistration {
            pair: pair(3),
            directories: vec![],
            boot_id: "b".to_owned(),
        }),
        attempted: Some(DirRegistration { pair: pair(4), directories, boot_id }),
    };
    dir.write_registration(&registration).expect("written");
    dir.write_clean_marker(pair(3)).expect("written");
    drop(dir);
    let dir = fixture.dir();
    assert_eq!(dir.found().registration, Some(registration));
    assert_eq!(dir.found().clean_marker, Some(pair(3)));
    dir.remove_clean_marker().expect("removed");
    dir.remove_clean_marker().expect("nothing to remove is fine");
    drop(dir);
    assert_eq!(fixture.dir().found().clean_marker, None);
}

#[test]
fn damage_stops_the_start_and_names_the_file() {
    for name in ["meta.properties", "klamm.registration", "klamm.clean"] {
        let fixture = Fixture::new();
        drop(fixture.log());
        let dir = fixture.dir();
        dir.write_meta(&meta()).expect("written");
        dir.write_registration(&Registration::default()).expect("written");
        dir.write_clean_marker(pair(1)).expect("written");
        drop(dir);
        fixture.edit(&format!("../{name}"), |bytes| bytes.truncate(bytes.len() / 2));
        let refused = open(&fixture).expect_err("damaged");
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

#[test]
fn a_damaged_checkpoint_counts_as_missing() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    for _ in 0..5 {
        append(&mut log, batch(&["a"])).expect("appended");
    }
    checkpoint(&mut log);
    drop(log);
    fixture.edit("../recovery-point-offset-checkpoint", |bytes| bytes[0] = b'7');
    let (log, report) = fixture.open();
    assert_eq!((report.recovery_point, log.log_end_offset()), (0, 5));
    assert!(report.scanned_bytes > 0);
}

#[test]
fn checkpoints_are_read_back_and_forgotten() {
    let fixture = Fixture::new();
    // Checkpoints of a partition that is not here are dropped.
    drop(fixture.log());
    let dir = fixture.dir();
    let partition = Fixture::partition();
    assert_eq!(dir.high_watermark(&partition), None);
    dir.set_high_watermark(&partition, 11);
    dir.write_high_watermarks().expect("written");
    drop(dir);
    let dir = fixture.dir();
    assert_eq!(dir.high_watermark(&partition), Some(11));
    dir.forget(&partition);
    dir.write_high_watermarks().expect("written");
    drop(dir);
    assert_eq!(fixture.dir().high_watermark(&partition), None);
}
