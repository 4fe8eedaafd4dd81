//! The fetch paths: what a request asks for, and that it came.

use std::net::SocketAddr;

use klamm_protocol::Records;
use klamm_protocol::messages::fetch::{FetchPartition, FetchTopic};
use klamm_protocol::messages::{FetchRequest, FetchResponse};

use crate::Outcome;
use crate::client::{Client, encoded, is_ok};
use crate::paths::OneMore;
use crate::produce::{PLAIN, TOPIC, prefill};

/// The last version that names topics by name; what kafka-python and librdkafka 2.4 ask for.
const VERSION: i16 = 12;
/// Wait of a long poll that nothing comes for.
const EXPIRES_MS: i32 = 5;
/// Wait of a long poll that something comes for.
const TAIL_MS: i32 = 30_000;

/// Reads the first `bytes` bytes of a log of batches that hold `records` of 1 KiB each.
pub(crate) fn warm(address: SocketAddr, records: usize, bytes: i32) -> Outcome<OneMore> {
    let mut client = Client::connect(address)?;
    let batches = usize::try_from(bytes)? / (records * PLAIN.record_bytes);
    prefill(&mut client, batches + 1, records)?;
    let request = encoded(VERSION, &fetch(0, bytes, 0))?;
    Ok(Box::new(move || {
        client.send(&request)?;
        let got = records_len(&client.receive::<FetchRequest>(VERSION)?)?;
        // Whole batches alone are sent, and a batch is longer than its values.
        let least = (batches - 1) * records * PLAIN.record_bytes;
        if got < least.max(1) || got > usize::try_from(bytes)? + PLAIN.record_bytes {
            return Err(format!("{got} bytes of records came for {bytes}").into());
        }
        Ok(())
    }))
}

/// Asks for what is not there yet, and waits `wait_ms` for nothing.
fn nothing(address: SocketAddr, wait_ms: i32) -> Outcome<OneMore> {
    let mut client = Client::connect(address)?;
    prefill(&mut client, 1, 1)?;
    let request = encoded(VERSION, &fetch(1, 1 << 20, wait_ms))?;
    Ok(Box::new(move || {
        client.send(&request)?;
        match records_len(&client.receive::<FetchRequest>(VERSION)?)? {
            0 => Ok(()),
            some => Err(format!("{some} bytes came from beyond the end").into()),
        }
    }))
}

/// A fetch at the end of the log that does not wait.
pub(crate) fn empty(address: SocketAddr) -> Outcome<OneMore> {
    nothing(address, 0)
}

/// A fetch at the end of the log that waits until its time is over.
pub(crate) fn long_poll(address: SocketAddr) -> Outcome<OneMore> {
    nothing(address, EXPIRES_MS)
}

/// A fetch that waits, and a produce request of 1 KiB that wakes it: the two together.
pub(crate) fn tail(address: SocketAddr) -> Outcome<OneMore> {
    let mut client = Client::connect(address)?;
    let mut produce: OneMore = PLAIN.begin(address)?;
    let mut offset = 0;
    Ok(Box::new(move || {
        client.send(&encoded(VERSION, &fetch(offset, 1 << 20, TAIL_MS))?)?;
        produce()?;
        offset += 1;
        match records_len(&client.receive::<FetchRequest>(VERSION)?)? {
            0 => Err("woken for nothing".into()),
            _ => Ok(()),
        }
    }))
}

fn fetch(offset: i64, bytes_max: i32, wait_ms: i32) -> FetchRequest {
    let part = FetchPartition {
        partition: 0,
        current_leader_epoch: -1,
        fetch_offset: offset,
        partition_max_bytes: bytes_max,
        ..FetchPartition::default()
    };
    let topic =
        FetchTopic { topic: TOPIC.to_owned(), partitions: vec![part], ..FetchTopic::default() };
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: bytes_max,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

fn records_len(response: &FetchResponse) -> Outcome<usize> {
    is_ok(response.error_code)?;
    let topic = response.responses.first().ok_or("an answer without the topic")?;
    let part = topic.partitions.first().ok_or("an answer without the partition")?;
    is_ok(part.error_code)?;
    match &part.records {
        Records::Inline(bytes) => Ok(bytes.len()),
        other => Err(format!("no records but {other:?}").into()),
    }
}
