//! The log against a `Vec`: whatever is done to it in whatever order, it holds what it should.

#[expect(unreachable_pub, reason = "shared between test files")]
mod fixture;

use fixture::{Fixture, append_in_epoch, build, checkpoint, read_all, sync};
use klamm_log::{EpochCache, Log};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::ProducerFields;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Records of this many bytes each, by one of a few producers.
    Append {
        sizes: Vec<usize>,
        producer: Option<i64>,
        repeat: bool,
    },
    NewEpoch,
    Truncate(u8),
    AdvanceStart(u8),
    DeleteOld(u8),
    Sync,
    Checkpoint,
    CloseAndOpen,
    DropAndOpen,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop::collection::vec(1_usize..120, 1..5);
    prop_oneof![
        12 => (sizes, prop::option::of(0_i64..3), any::<bool>())
            .prop_map(|(sizes, producer, repeat)| Step::Append { sizes, producer, repeat }),
        1 => Just(Step::NewEpoch),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::AdvanceStart),
        1 => any::<u8>().prop_map(Step::DeleteOld),
        2 => Just(Step::Sync),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::CloseAndOpen),
        2 => Just(Step::DropAndOpen),
    ]
}

/// One batch of the model.
#[derive(Clone, Debug)]
struct Batch {
    first: i64,
    values: Vec<String>,
    epoch: i32,
    producer: Option<(i64, i32)>,
}

impl Batch {
    fn next(&self) -> i64 {
        self.first + self.values.len() as i64
    }
}

#[derive(Default)]
struct Model {
    batches: Vec<Batch>,
    start: i64,
    end: i64,
    epoch: i32,
    written: usize,
}

impl Model {
    fn next_sequence(&self, producer: i64) -> i32 {
        let last = self.batches.iter().rev().find_map(|batch| match batch.producer {
            Some((id, sequence)) if id == producer => Some(sequence + batch.values.len() as i32),
            _ => None,
        });
        last.unwrap_or(0)
    }

    fn append(&mut self, log: &mut Log, sizes: &[usize], producer: Option<i64>, repeat: bool) {
        self.written += 1;
        let values: Vec<String> = sizes
            .iter()
            .enumerate()
            .map(|(at, size)| format!("{}.{at} {}", self.written, "x".repeat(*size)))
            .collect();
        let sequence = producer.map_or(-1, |id| self.next_sequence(id));
        let fields = match producer {
            None => ProducerFields::NONE,
            Some(id) => {
                ProducerFields { producer_id: id, producer_epoch: 0, base_sequence: sequence }
            }
        };
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let records = build(&texts, fields, fixture::NOW_MS, Compression::None);
        let appended = append_in_epoch(log, records.clone(), self.epoch).expect("appended");
        assert!(!appended.duplicate);
        assert_eq!(appended.first_offset, self.end);
        if repeat && producer.is_some() {
            let again = append_in_epoch(log, records, self.epoch).expect("a duplicate");
            assert!(again.duplicate);
            assert_eq!(again.first_offset, self.end);
        }
        let producer = producer.map(|id| (id, sequence));
        let batch = Batch { first: self.end, values, epoch: self.epoch, producer };
        self.end = batch.next();
        self.batches.push(batch);
    }

    fn truncate(&mut self, to: i64) {
        // A batch goes as a whole.
        while let Some(cut) = self.batches.pop_if(|batch| batch.next() > to) {
            self.end = cut.first;
        }
        self.start = self.start.min(self.end);
    }

    fn expected(&self) -> Vec<(i64, String)> {
        let all = self.batches.iter().flat_map(|batch| (batch.first..).zip(batch.values.clone()));
        all.filter(|(offset, _)| *offset >= self.start).collect()
    }

    fn check(&self, log: &Log) {
        assert_eq!(log.log_end_offset(), self.end);
        assert_eq!(log.log_start_offset(), self.start);
        assert_eq!(read_all(&log.reader(), self.start), self.expected());
        let mut epochs = EpochCache::default();
        for batch in self.batches.iter().filter(|batch| batch.next() > self.start) {
            epochs.assign(batch.epoch, batch.first.max(self.start));
        }
        let found = log.epochs();
        let with_records: Vec<_> =
            found.entries().iter().filter(|entry| entry.start_offset < self.end).collect();
        assert_eq!(with_records, epochs.entries().iter().collect::<Vec<_>>());
        assert!(log.recovery_point() <= log.synced_end_offset());
        assert!(log.synced_end_offset() <= log.log_end_offset());
    }
}

fn run(steps: &[Step]) {
    let fixture = Fixture::small();
    let mut log = fixture.log();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { sizes, producer, repeat } => {
                model.append(&mut log, sizes, *producer, *repeat);
            }
            Step::NewEpoch => {
                model.epoch += 1;
                log.record_epoch_start(model.epoch);
            }
            Step::Truncate(part) => {
                let span = model.end - model.start;
                let to = model.start + span * i64::from(*part) / 255;
                log.truncate_to(to).expect("nobody reads");
                model.truncate(to);
                // What a leader appends after a truncation is of a new epoch.
                model.epoch += 1;
            }
            Step::AdvanceStart(part) => {
                let to = model.start + (model.end - model.start) * i64::from(*part) / 510;
                log.advance_log_start(to);
                model.start = model.start.max(to);
            }
            Step::DeleteOld(part) => {
                let bound = model.start + (model.end - model.start) * i64::from(*part) / 255;
                let deletion = log.delete_old_segments(fixture.now_ms, bound).expect("disk");
                if let Some(deletion) = deletion {
                    deletion.run().expect("disk");
                }
                assert!(log.log_start_offset() <= model.start.max(bound));
                model.start = log.log_start_offset();
            }
            Step::Sync => sync(&mut log),
            Step::Checkpoint => checkpoint(&mut log),
            Step::CloseAndOpen | Step::DropAndOpen => {
                let dir = std::sync::Arc::clone(log.dir());
                dir.write_log_start_offsets().expect("disk");
                drop(dir);
                match step {
                    Step::CloseAndOpen => Fixture::close(log),
                    _ => drop(log),
                }
                let (opened, report) = fixture.open();
                log = opened;
                assert_eq!(report.cut_bytes, 0, "{report:?}");
                assert!(!report.lost_below_recovery_point);
                if matches!(step, Step::CloseAndOpen) {
                    assert_eq!(report.scanned_bytes, 0);
                }
            }
        }
        model.check(&log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list(steps in prop::collection::vec(step(), 1..80)) {
        run(&steps);
    }
}
