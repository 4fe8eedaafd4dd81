//! Looking into files: everything that a log wrote is shown, and what is damaged is named.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use std::ops::ControlFlow;

use fixture::transactions::{abort, write};
use fixture::{Fixture, NOW_MS, append_in_epoch, build};
use klamm_env::Env;
use klamm_log::{AbortedTransaction, DumpOptions, Found, dump_file, dumpable_files};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::ProducerFields;

const OPTIONS: DumpOptions = DumpOptions { records: true, batch_decompressed_bytes_max: 1_000_000 };

/// A closed log of several segments, 20 batches of two records each.
fn written() -> Fixture {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    for n in 0..20 {
        let producer = ProducerFields { producer_id: 7, producer_epoch: 1, base_sequence: 2 * n };
        let codec = Compression::ALL[n as usize % Compression::ALL.len()];
        let records = build(&["one", "two"], producer, NOW_MS + i64::from(n), codec);
        append_in_epoch(&mut log, records, n / 10).expect("appended");
    }
    Fixture::close(log);
    fixture
}

fn dump(fixture: &Fixture, name: &str) -> Vec<Found> {
    let files = Env::real().expect("the machine's seams").files;
    let mut found = Vec::new();
    dump_file(&*files, &fixture.path(name), OPTIONS, &mut |item| {
        found.push(item);
        ControlFlow::Continue(())
    })
    .expect("readable");
    found
}

fn all_names(fixture: &Fixture) -> Vec<String> {
    let files = Env::real().expect("the machine's seams").files;
    let paths = dumpable_files(&*files, &fixture.path("")).expect("a partition");
    let name = |path: &std::path::Path| path.file_name().expect("a file").to_string_lossy().into();
    paths.iter().map(|path| name(path)).collect()
}

#[test]
fn every_batch_record_index_entry_producer_and_epoch_is_shown() {
    let fixture = written();
    let names = all_names(&fixture);
    let found: Vec<_> = names.iter().flat_map(|name| dump(&fixture, name)).collect();
    let offsets =
        |pick: fn(&Found) -> Option<i64>| found.iter().filter_map(pick).collect::<Vec<_>>();
    let batches = offsets(|found| match found {
        Found::Batch { header, .. } => Some(header.base_offset),
        _ => None,
    });
    assert_eq!(batches, (0..20).map(|n| 2 * n).collect::<Vec<_>>());
    let records = offsets(|found| match found {
        Found::Record(record) => Some(record.offset),
        _ => None,
    });
    assert_eq!(records, (0..40).collect::<Vec<_>>());
    let indexed = offsets(|found| match found {
        Found::Offset { offset, .. } => Some(*offset),
        _ => None,
    });
    assert!(indexed.len() > 3 && indexed.is_sorted(), "{indexed:?}");
    let timed = offsets(|found| match found {
        Found::Timestamp { timestamp, offset } => Some(*timestamp).filter(|_| *offset >= 0),
        _ => None,
    });
    assert!(timed.len() > 3 && timed.is_sorted(), "{timed:?}");
    let producers = offsets(|found| match found {
        Found::Producer(producer) => Some(producer.producer_id),
        _ => None,
    });
    assert!(!producers.is_empty() && producers.iter().all(|id| *id == 7), "{producers:?}");
    let epochs = offsets(|found| match found {
        Found::Epoch(epoch) => Some(epoch.start_offset),
        _ => None,
    });
    assert_eq!(epochs, [0, 20]);
    assert!(!found.iter().any(|found| matches!(found, Found::Damage { .. })));
}

fn damage(found: &[Found]) -> Option<(u64, &str)> {
    match found.last()? {
        Found::Damage { position, reason } => Some((*position, reason)),
        _ => None,
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let fixture = written();
    let names = all_names(&fixture);
    let first = |suffix: &str| names.iter().find(|name| name.ends_with(suffix)).expect("there");

    let log = first(".log");
    fixture.edit(log, |bytes| *bytes.last_mut().expect("not empty") ^= 1);
    let found = dump(&fixture, log);
    assert!(damage(&found).is_some_and(|(at, why)| at > 0 && why.contains("CRC")), "{found:?}");
    fixture.edit(log, |bytes| bytes.truncate(70));
    let found = dump(&fixture, log);
    assert!(damage(&found).is_some_and(|(at, why)| at == 0 && why.contains("cut off")));

    let index = first(".index");
    fixture.edit(index, |bytes| bytes.extend([0; 3]));
    assert!(damage(&dump(&fixture, index)).is_some_and(|(_, why)| why.contains("3 bytes")));

    let snapshot = first(".snapshot");
    fixture.edit(snapshot, |bytes| bytes[8] ^= 1);
    assert!(damage(&dump(&fixture, snapshot)).is_some());
}

#[test]
fn aborted_transactions_are_shown_up_to_what_is_none() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    for _ in 0..2 {
        write(&mut log, 4, "void");
        abort(&mut log, 4);
    }
    Fixture::close(log);
    let name = "00000000000000000000.txnindex";
    assert!(all_names(&fixture).contains(&name.to_owned()));
    let entry = |first_offset| {
        let (last_offset, last_stable_offset) = (first_offset + 1, first_offset + 2);
        let producer_id = 4;
        Found::Aborted(AbortedTransaction {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        })
    };
    assert_eq!(dump(&fixture, name), [entry(0), entry(2)]);
    fixture.edit(name, |bytes| bytes[35] = 1);
    let found = dump(&fixture, name);
    assert_eq!(found[0], entry(0));
    assert_eq!(damage(&found), Some((34, "version 1 is not known")));
}

#[test]
fn what_is_no_file_of_a_partition_is_refused() {
    let fixture = written();
    let files = Env::real().expect("the machine's seams").files;
    let mut see = |_| ControlFlow::Continue(());
    assert!(dump_file(&*files, &fixture.path("partition.metadata"), OPTIONS, &mut see).is_err());
    assert!(dumpable_files(&*files, &fixture.path("nothing")).is_err());
    assert!(dumpable_files(&*files, fixture.root.path()).is_err(), "not a partition's directory");
}
