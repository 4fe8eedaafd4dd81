//! `klamm log dump PATH`, `klamm log verify PATH`

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use klamm_env::Env;
use klamm_log::{
    AbortedTransaction, DumpOptions, Found, ProducerEntry, Verified, dump_file, dumpable_files,
    verify,
};
use klamm_protocol::compression::BATCH_DECOMPRESSED_BYTES_MAX;
use klamm_protocol::records::{BatchHeader, Record, TimestampType};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::line;

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show what is in a segment, an index, a snapshot, or all files of a partition
    Dump(Dump),
    /// Check a log directory, a partition or one file; nothing is changed
    Verify(Verify),
}

#[derive(Args, Debug)]
pub(crate) struct Dump {
    /// A file of a partition, or its directory
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Show the records of each batch, too
    #[arg(long)]
    pub(crate) records: bool,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// A log directory, a partition's directory, or a file of one; no broker should run on it
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Write JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(env: &Env, verb: Log) -> Outcome {
    match verb {
        Log::Dump(verb) => run_dump(env, verb),
        Log::Verify(verb) => run_verify(env, verb),
    }
}

fn run_verify(env: &Env, verb: Verify) -> Outcome {
    let mut output = BufWriter::new(io::stdout().lock());
    let mut damaged = 0_u64;
    let mut show = |verified: Verified| {
        damaged += verified.damaged;
        if verb.json {
            return writeln!(output, "{}", verified_json(&verified));
        }
        output.write_all(verified_text(&verified).as_bytes())
    };
    verify(&*env.files, &verb.path, BATCH_DECOMPRESSED_BYTES_MAX, &mut show)?;
    output.flush()?;
    sound_or_damaged(damaged)
}

/// One line for what is sound, one more for each place that is not.
fn verified_text(verified: &Verified) -> String {
    let path = verified.path.display();
    let Verified { segments, batches, records, damaged, .. } = verified;
    let read = match segments {
        0 => String::new(),
        _ => format!(", {segments} segments, {batches} batches, {records} records"),
    };
    if verified.is_sound() {
        return format!("{path}: OK{read}\n");
    }
    let mut text = format!("{path}: DAMAGED in {damaged} places{read}\n");
    for damage in &verified.damage {
        let (file, position) = (damage.path.display(), damage.position);
        text.push_str(&format!("  {file} at {position}: {}\n", damage.reason));
    }
    text
}

fn verified_json(verified: &Verified) -> Value {
    let damage = verified.damage.iter().map(|damage| {
        let (file, position) = (damage.path.to_string_lossy(), damage.position);
        json!({ "file": file, "position": position, "reason": damage.reason })
    });
    json!({
        "path": verified.path.to_string_lossy(),
        "sound": verified.is_sound(),
        "segments": verified.segments,
        "batches": verified.batches,
        "records": verified.records,
        "damaged": verified.damaged,
        "damage": damage.collect::<Value>(),
    })
}

fn sound_or_damaged(damaged: u64) -> Outcome {
    match damaged {
        0 => Ok(()),
        1 => Err(Failure::Refused("1 place is damaged".to_owned())),
        places => Err(Failure::Refused(format!("{places} places are damaged"))),
    }
}

fn run_dump(env: &Env, verb: Dump) -> Outcome {
    let files = &*env.files;
    let options = DumpOptions {
        records: verb.records,
        batch_decompressed_bytes_max: BATCH_DECOMPRESSED_BYTES_MAX,
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let mut damaged = 0_u64;
    for path in dumpable_files(files, &verb.path)? {
        if !verb.json {
            writeln!(output, "{}", path.display())?;
        }
        let mut failed = Ok(());
        dump_file(files, &path, options, &mut |found| {
            damaged += u64::from(matches!(found, Found::Damage { .. }));
            failed = show(&mut output, &path, &found, verb.json);
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed?;
    }
    output.flush()?;
    sound_or_damaged(damaged)
}

fn show(output: &mut impl Write, path: &Path, found: &Found, as_json: bool) -> io::Result<()> {
    if as_json {
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut object = to_json(found);
        object["file"] = json!(file);
        return writeln!(output, "{object}");
    }
    output.write_all(&to_text(found))
}

fn to_text(found: &Found) -> Vec<u8> {
    let text = match found {
        Found::Batch { position, header } => batch_text(*position, header),
        Found::Record(record) => return record_text(record),
        Found::Offset { offset, position } => format!("offset {offset} at {position}"),
        Found::Timestamp { timestamp, offset } => format!("timestamp {timestamp} offset {offset}"),
        Found::Aborted(aborted) => aborted_text(aborted),
        Found::Producer(producer) => producer_text(producer),
        Found::Epoch(epoch) => format!("epoch {} from offset {}", epoch.epoch, epoch.start_offset),
        Found::Damage { position, reason } => format!("DAMAGED at {position}: {reason}"),
    };
    format!("  {text}\n").into_bytes()
}

fn batch_text(position: u64, header: &BatchHeader) -> String {
    let mut text = format!(
        "at {position}: offsets {} to {}, {} records, {} bytes, {}, epoch {}, max timestamp {}",
        header.base_offset,
        header.last_offset(),
        header.records_count,
        header.size(),
        codec(header),
        header.partition_leader_epoch,
        header.max_timestamp,
    );
    if header.timestamp_type() == TimestampType::LogAppendTime {
        text.push_str(" (of the append)");
    }
    if header.has_producer_id() {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let (first, last) = (header.base_sequence, header.last_sequence());
        text.push_str(&format!(", producer {id} epoch {epoch} sequences {first} to {last}"));
    }
    for (is_so, what) in
        [(header.is_transactional(), ", transactional"), (header.is_control(), ", control")]
    {
        text.push_str(if is_so { what } else { "" });
    }
    text
}

fn codec(header: &BatchHeader) -> &'static str {
    header.compression().map_or("unknown codec", |codec| codec.name())
}

fn record_text(record: &Record) -> Vec<u8> {
    let part = |bytes: &Option<bytes::Bytes>| match bytes {
        Some(bytes) => bytes.escape_ascii().to_string(),
        None => "(null)".to_owned(),
    };
    let mut text = format!(
        "    {} at {}: {} = {}",
        record.offset,
        record.timestamp,
        part(&record.key),
        part(&record.value)
    );
    for header in &record.headers {
        let (key, value) = (header.key.escape_ascii(), part(&header.value));
        text.push_str(&format!(", {key}: {value}"));
    }
    text.push('\n');
    text.into_bytes()
}

fn aborted_text(aborted: &AbortedTransaction) -> String {
    let AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } = aborted;
    format!(
        "producer {producer_id} aborted from {first_offset} to {last_offset}, stable up to \
         {last_stable_offset}"
    )
}

fn producer_text(producer: &ProducerEntry) -> String {
    let ProducerEntry { producer_id, producer_epoch, .. } = producer;
    let mut text = format!("producer {producer_id} epoch {producer_epoch}");
    for batch in &producer.batches {
        let (first, last) = (batch.first_sequence(), batch.last_sequence);
        let offset = batch.last_offset;
        text.push_str(&format!(", sequences {first} to {last} until offset {offset}"));
    }
    if let Some(offset) = producer.transaction_first_offset {
        text.push_str(&format!(", transaction open since offset {offset}"));
    }
    text
}

fn to_json(found: &Found) -> Value {
    match found {
        Found::Batch { position, header } => batch_json(*position, header),
        Found::Record(record) => line::record_json(record),
        Found::Offset { offset, position } => {
            json!({ "kind": "offset", "offset": offset, "position": position })
        }
        Found::Timestamp { timestamp, offset } => {
            json!({ "kind": "timestamp", "timestamp": timestamp, "offset": offset })
        }
        Found::Aborted(aborted) => aborted_json(aborted),
        Found::Producer(producer) => producer_json(producer),
        Found::Epoch(epoch) => {
            json!({ "kind": "epoch", "epoch": epoch.epoch, "start_offset": epoch.start_offset })
        }
        Found::Damage { position, reason } => {
            json!({ "kind": "damage", "position": position, "reason": reason })
        }
    }
}

fn batch_json(position: u64, header: &BatchHeader) -> Value {
    json!({
        "kind": "batch",
        "position": position,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset(),
        "records": header.records_count,
        "bytes": header.size(),
        "compression": codec(header),
        "leader_epoch": header.partition_leader_epoch,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "log_append_time": header.timestamp_type() == TimestampType::LogAppendTime,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional(),
        "control": header.is_control(),
        "crc": header.crc,
    })
}

fn aborted_json(aborted: &AbortedTransaction) -> Value {
    json!({
        "kind": "aborted",
        "producer_id": aborted.producer_id,
        "first_offset": aborted.first_offset,
        "last_offset": aborted.last_offset,
        "last_stable_offset": aborted.last_stable_offset,
    })
}

fn producer_json(producer: &ProducerEntry) -> Value {
    let batches = producer.batches.iter().map(|batch| {
        json!({
            "first_sequence": batch.first_sequence(),
            "last_sequence": batch.last_sequence,
            "last_offset": batch.last_offset,
        })
    });
    json!({
        "kind": "producer",
        "producer_id": producer.producer_id,
        "producer_epoch": producer.producer_epoch,
        "coordinator_epoch": producer.coordinator_epoch,
        "last_active_ms": producer.last_active_ms,
        "transaction_first_offset": producer.transaction_first_offset,
        "batches": batches.collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use klamm_protocol::compression::Compression;
    use klamm_protocol::records::{BatchBuilder, NewRecord, ProducerFields};

    use super::*;

    fn header() -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::Zstd, 1000);
        builder.set_base_offset(40);
        builder.set_leader_epoch(2);
        let fields = ProducerFields { producer_id: 7, producer_epoch: 0, base_sequence: 9 };
        builder.set_producer(fields);
        for timestamp in [1000, 3000] {
            builder.append(&NewRecord { timestamp, ..NewRecord::default() }).expect("fits");
        }
        BatchHeader::parse(&builder.build().expect("compresses")).expect("a batch")
    }

    #[test]
    fn a_batch_is_a_line() {
        let text = batch_text(100, &header());
        assert!(text.starts_with("at 100: offsets 40 to 41, 2 records, "), "{text}");
        assert!(text.contains(" zstd, epoch 2, max timestamp 3000"), "{text}");
        assert!(text.ends_with("producer 7 epoch 0 sequences 9 to 10"), "{text}");
        let json = batch_json(100, &header());
        assert_eq!((&json["last_offset"], &json["compression"]), (&json!(41), &json!("zstd")));
    }

    #[test]
    fn an_aborted_transaction_is_a_line() {
        let aborted = AbortedTransaction {
            producer_id: 7,
            first_offset: 10,
            last_offset: 14,
            last_stable_offset: 12,
        };
        let text = aborted_text(&aborted);
        assert_eq!(text, "producer 7 aborted from 10 to 14, stable up to 12");
        let json = aborted_json(&aborted);
        assert_eq!((&json["kind"], &json["first_offset"]), (&json!("aborted"), &json!(10)));
    }

    #[test]
    fn a_record_is_a_line_whatever_it_holds() {
        let record = Record {
            offset: 5,
            timestamp: 6,
            key: None,
            value: Some("a\n\u{fc}".into()),
            headers: Vec::new(),
        };
        assert_eq!(record_text(&record), b"    5 at 6: (null) = a\\n\\xc3\\xbc\n");
    }
}
