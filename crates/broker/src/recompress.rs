//! Batches in the codec that a topic asks for (`compression.type` other than `producer`).

use bytes::Bytes;
use klamm_protocol::ErrorCode;
use klamm_protocol::compression::{BATCH_DECOMPRESSED_BYTES_MAX, Compression};
use klamm_protocol::records::{
    Batch, BatchBuilder, NewRecord, ProducerFields, TimestampType, validate_header,
};

use crate::config::{CompressionType, TopicConfig};

/// The batch with the same records in the topic's codec; `None` where it is in it already, or where
/// the log will refuse it for its form.
///
/// # Errors
/// INVALID_RECORD where its records cannot be read.
pub(crate) fn recompressed(
    batch: &Batch,
    config: &TopicConfig,
) -> Result<Option<Bytes>, ErrorCode> {
    let Some((codec, level)) = wanted(config) else { return Ok(None) };
    let header = *batch.header();
    let as_it_is = header.compression() == Ok(codec)
        || header.timestamp_type() == TimestampType::LogAppendTime
        || validate_header(batch.bytes()).is_err();
    if as_it_is {
        return Ok(None);
    }
    let mut builder = BatchBuilder::new(codec, BATCH_DECOMPRESSED_BYTES_MAX);
    builder.set_compression_level(level);
    builder.set_transactional(header.is_transactional());
    builder.set_producer(ProducerFields {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    });
    let records = batch.records(BATCH_DECOMPRESSED_BYTES_MAX);
    for record in records.map_err(|_| ErrorCode::InvalidRecord)? {
        let record = record.map_err(|_| ErrorCode::InvalidRecord)?;
        let copied = builder.append(&NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        });
        copied.map_err(|_| ErrorCode::MessageTooLarge)?;
    }
    builder.build().map(Some).map_err(|_| ErrorCode::UnknownServerError)
}

/// Codec and level; `None` leaves what the producer chose.
fn wanted(config: &TopicConfig) -> Option<(Compression, Option<i32>)> {
    match config.compression_type {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some((Compression::None, None)),
        CompressionType::Snappy => Some((Compression::Snappy, None)),
        CompressionType::Lz4 => Some((Compression::Lz4, Some(config.compression_lz4_level))),
        CompressionType::Zstd => Some((Compression::Zstd, Some(config.compression_zstd_level))),
        CompressionType::Gzip => {
            let level = config.compression_gzip_level;
            Some((Compression::Gzip, (level >= 0).then_some(level)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, Settings};

    fn config(codec: &str) -> TopicConfig {
        let own = [("compression.type".to_owned(), codec.to_owned())];
        BrokerConfig::default().topic(&Settings::from(own))
    }

    fn batch(codec: Compression) -> Batch {
        let mut builder = BatchBuilder::new(codec, 1 << 20);
        let producer = ProducerFields { producer_id: 5, producer_epoch: 1, base_sequence: 9 };
        builder.set_producer(producer);
        for (n, key) in [Some(&b"k"[..]), None].into_iter().enumerate() {
            let value = Some(&b"value value value value"[..]);
            let record = NewRecord { timestamp: 100 + n as i64, key, value, headers: &[] };
            builder.append(&record).unwrap();
        }
        Batch::parse(&builder.build().unwrap()).unwrap()
    }

    #[test]
    fn records_survive_the_change_of_codec() {
        for from in Compression::ALL {
            for to in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
                let before = batch(from);
                let Some(bytes) = recompressed(&before, &config(to)).unwrap() else {
                    assert!(
                        from.name() == to || (from == Compression::None && to == "uncompressed")
                    );
                    continue;
                };
                let after = Batch::parse_produced(&bytes).unwrap();
                let records = |batch: &Batch| -> Vec<_> {
                    batch.records(1 << 20).unwrap().map(Result::unwrap).collect()
                };
                assert_eq!(records(&before), records(&after), "{from:?} to {to}");
                assert_eq!(before.producer_id, after.producer_id);
                assert_eq!(before.base_sequence, after.base_sequence);
                assert_eq!(before.max_timestamp, after.max_timestamp);
            }
        }
    }

    #[test]
    fn what_the_producer_chose_stays_where_the_topic_says_so() {
        for from in Compression::ALL {
            assert_eq!(recompressed(&batch(from), &config("producer")), Ok(None));
        }
    }
}
