//! Producer snapshots: the state of a log's producers at an offset, as Kafka's file.
//!
//! A producer has one entry for each batch of its window, oldest first; Apache Kafka writes the
//! last batch only, and of several entries with one producer id keeps the last.

use crate::producers::{BatchMetadata, ProducerEntry, ProducerState, WINDOW};

const VERSION: i16 = 1;
/// Version and CRC.
const HEADER_LEN: usize = 6;
const ENTRY_LEN: usize = 46;

/// The file's bytes.
pub(crate) fn encode(producers: &ProducerState) -> Vec<u8> {
    let entries = producers.entries();
    let count: usize = entries.iter().map(|entry| entry.batches.len().max(1)).sum();
    let mut bytes = Vec::with_capacity(HEADER_LEN + 4 + count * ENTRY_LEN);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let count = i32::try_from(count).expect("fewer producers than fit into memory");
    bytes.extend_from_slice(&count.to_be_bytes());
    for entry in entries {
        if entry.batches.is_empty() {
            encode_entry(&mut bytes, entry, None);
        }
        for batch in &entry.batches {
            encode_entry(&mut bytes, entry, Some(batch));
        }
    }
    let crc = crc32c::crc32c(&bytes[HEADER_LEN..]);
    bytes[2..HEADER_LEN].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn encode_entry(bytes: &mut Vec<u8>, entry: &ProducerEntry, batch: Option<&BatchMetadata>) {
    const NONE: BatchMetadata =
        BatchMetadata { last_sequence: -1, last_offset: -1, offset_delta: 0, timestamp: -1 };
    let batch = batch.unwrap_or(&NONE);
    bytes.extend_from_slice(&entry.producer_id.to_be_bytes());
    bytes.extend_from_slice(&entry.producer_epoch.to_be_bytes());
    bytes.extend_from_slice(&batch.last_sequence.to_be_bytes());
    bytes.extend_from_slice(&batch.last_offset.to_be_bytes());
    bytes.extend_from_slice(&batch.offset_delta.to_be_bytes());
    bytes.extend_from_slice(&entry.last_active_ms.to_be_bytes());
    bytes.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
    bytes.extend_from_slice(&entry.transaction_first_offset.unwrap_or(-1).to_be_bytes());
}

/// Reads what [`encode`] or Apache Kafka wrote; `None` where a byte is wrong, or a batch begins
/// before offset 0.
pub(crate) fn decode(bytes: &[u8]) -> Option<ProducerState> {
    let (version, rest) = bytes.split_first_chunk::<2>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    if i16::from_be_bytes(*version) != VERSION || u32::from_be_bytes(*crc) != crc32c::crc32c(rest) {
        return None;
    }
    let (count, entries) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    if entries.len() != count.checked_mul(ENTRY_LEN)? {
        return None;
    }
    let mut producers = ProducerState::default();
    let mut current: Option<ProducerEntry> = None;
    for bytes in entries.chunks_exact(ENTRY_LEN) {
        let entry = decode_entry(bytes)?;
        match &mut current {
            Some(known)
                if known.producer_id == entry.producer_id
                    && known.producer_epoch == entry.producer_epoch
                    && known.batches.len() < WINDOW =>
            {
                known.batches.extend(entry.batches);
                known.last_active_ms = entry.last_active_ms;
            }
            _ => {
                if let Some(done) = current.replace(entry) {
                    producers.insert(done);
                }
            }
        }
    }
    if let Some(last) = current {
        producers.insert(last);
    }
    Some(producers)
}

fn decode_entry(bytes: &[u8]) -> Option<ProducerEntry> {
    let mut rest = bytes;
    let producer_id = i64::from_be_bytes(take(&mut rest)?);
    let producer_epoch = i16::from_be_bytes(take(&mut rest)?);
    let last_sequence = i32::from_be_bytes(take(&mut rest)?);
    let last_offset = i64::from_be_bytes(take(&mut rest)?);
    let offset_delta = i32::from_be_bytes(take(&mut rest)?);
    let timestamp = i64::from_be_bytes(take(&mut rest)?);
    let coordinator_epoch = i32::from_be_bytes(take(&mut rest)?);
    let first_offset = i64::from_be_bytes(take(&mut rest)?);
    let batch = BatchMetadata { last_sequence, last_offset, offset_delta, timestamp };
    if last_offset >= 0 && !(0..=last_offset).contains(&i64::from(offset_delta)) {
        return None;
    }
    Some(ProducerEntry {
        producer_id,
        producer_epoch,
        coordinator_epoch,
        last_active_ms: timestamp,
        transaction_first_offset: (first_offset >= 0).then_some(first_offset),
        batches: if last_offset >= 0 { vec![batch] } else { Vec::new() },
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(producer_id: i64, batches: i32) -> ProducerEntry {
        ProducerEntry {
            producer_id,
            producer_epoch: 3,
            coordinator_epoch: -1,
            last_active_ms: 1_000,
            transaction_first_offset: None,
            batches: (0..batches)
                .map(|n| BatchMetadata {
                    last_sequence: 10 * n + 9,
                    last_offset: i64::from(20 * n + 9),
                    offset_delta: 9,
                    timestamp: 1_000,
                })
                .collect(),
        }
    }

    #[test]
    fn snapshots_keep_the_whole_window() {
        let mut producers = ProducerState::default();
        for (id, batches) in [(4, 5), (1, 0), (2, 1)] {
            producers.insert(entry(id, batches));
        }
        let found = decode(&encode(&producers)).expect("just written");
        assert_eq!(found.entries(), producers.entries());
    }

    #[test]
    fn a_batch_that_begins_before_the_first_offset_is_refused() {
        for (last_offset, offset_delta) in [(3, 4), (3, -1), (i64::MAX, i32::MIN)] {
            let mut wrong = entry(4, 1);
            (wrong.batches[0].last_offset, wrong.batches[0].offset_delta) =
                (last_offset, offset_delta);
            let mut producers = ProducerState::default();
            producers.insert(wrong);
            assert!(decode(&encode(&producers)).is_none(), "{last_offset} {offset_delta}");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut producers = ProducerState::default();
        producers.insert(entry(4, 2));
        let good = encode(&producers);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_none(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_none(), "length {len}");
        }
    }
}
