//! What a broker must not append, each with the code that Kafka gives it.

use klamm_protocol::ErrorCode;
use klamm_protocol::records::{
    ATTRIBUTES_OFFSET, BASE_OFFSET_OFFSET, BATCH_LENGTH_OFFSET, CRC_OFFSET, HEADER_LEN,
    LAST_OFFSET_DELTA_OFFSET, MAGIC_OFFSET, RECORDS_COUNT_OFFSET,
};

use crate::broker_process::{
    BrokerProcess, Connection, Launch, batch, batch_of, idempotent, reseal,
};

const CONTROL: u8 = 1 << 5;
const TRANSACTIONAL: u8 = 1 << 4;

struct Fixture {
    _dir: tempfile::TempDir,
    broker: BrokerProcess,
    client: Connection,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let broker = Launch::on(dir.path()).set("auto.create.topics.enable=false").start();
        let mut client = broker.connect();
        client.create_topic("t", 1);
        Fixture { _dir: dir, broker, client }
    }

    /// The batch is refused with `expected` and nothing is appended.
    #[track_caller]
    fn refuses(&mut self, batch: &[u8], expected: ErrorCode) {
        let end = self.client.list_offset("t", 0, -1, -1).1;
        assert_eq!(self.client.refusal("t", batch), expected);
        assert_eq!(self.client.list_offset("t", 0, -1, -1).1, end, "something was appended");
    }

    /// A sound batch after spoiling `at`, with a checksum that fits.
    #[track_caller]
    fn refuses_with(&mut self, at: usize, bytes: &[u8], expected: ErrorCode) {
        let mut batch = batch_of(&[b"one", b"two"]);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&mut batch);
        self.refuses(&batch, expected);
    }

    fn ends_well(mut self) {
        let next = self.client.list_offset("t", 0, -1, -1).1;
        assert_eq!(self.client.produce("t", &batch(b"sound")), next);
        self.broker.assert_serves();
    }
}

#[test]
fn a_wrong_checksum_is_a_corrupt_message() {
    let mut fixture = Fixture::new();
    for at in [CRC_OFFSET, ATTRIBUTES_OFFSET + 1, HEADER_LEN, HEADER_LEN + 8] {
        let mut batch = batch(b"some value");
        batch[at] ^= 1;
        fixture.refuses(&batch, ErrorCode::CorruptMessage);
    }
    fixture.ends_well();
}

#[test]
fn other_message_formats_are_refused() {
    let mut fixture = Fixture::new();
    for (magic, expected) in [
        (0, ErrorCode::InvalidRecord),
        (1, ErrorCode::InvalidRecord),
        (3, ErrorCode::CorruptMessage),
        (0x7f, ErrorCode::CorruptMessage),
        (0xff, ErrorCode::CorruptMessage),
    ] {
        fixture.refuses_with(MAGIC_OFFSET, &[magic], expected);
    }
    fixture.ends_well();
}

#[test]
fn a_batch_length_that_lies_is_refused() {
    let mut fixture = Fixture::new();
    let real = i32::try_from(batch_of(&[b"one", b"two"]).len()).expect("short") - 12;
    // Too short for its own header: corrupt. Longer than what came: no whole batch.
    for length in [0, -1, i32::MIN, 13, 48] {
        let length = i32::to_be_bytes(length);
        fixture.refuses_with(BATCH_LENGTH_OFFSET, &length, ErrorCode::CorruptMessage);
    }
    for length in [real + 1, 900_000] {
        let length = i32::to_be_bytes(length);
        fixture.refuses_with(BATCH_LENGTH_OFFSET, &length, ErrorCode::InvalidRecord);
    }
    // Shorter by one: a byte is left over, whatever the checksum says.
    let mut batch = batch_of(&[b"one", b"two"]);
    batch[BATCH_LENGTH_OFFSET..][..4].copy_from_slice(&(real - 1).to_be_bytes());
    fixture.refuses(&batch, ErrorCode::InvalidRecord);
    fixture.ends_well();
}

#[test]
fn offsets_and_counts_that_do_not_fit_are_refused() {
    let mut fixture = Fixture::new();
    for delta in [0, 2, -1, i32::MAX, i32::MIN] {
        let delta = delta.to_be_bytes();
        fixture.refuses_with(LAST_OFFSET_DELTA_OFFSET, &delta, ErrorCode::InvalidRecord);
    }
    for count in [0, 1, 3, -1, i32::MAX, i32::MIN] {
        let count = count.to_be_bytes();
        fixture.refuses_with(RECORDS_COUNT_OFFSET, &count, ErrorCode::InvalidRecord);
    }
    for offset in [1, -1, i64::MAX, i64::MIN] {
        let offset = offset.to_be_bytes();
        fixture.refuses_with(BASE_OFFSET_OFFSET, &offset, ErrorCode::InvalidRecord);
    }
    fixture.ends_well();
}

#[test]
fn records_that_are_missing_cut_or_too_many_are_refused() {
    let mut fixture = Fixture::new();
    let sound = batch(b"sound");
    for records in [None, Some(&[][..])] {
        let request = Connection::produce_request("t", 0, -1, records);
        let response = fixture.client.call(9, &request);
        let error = response.responses[0].partition_responses[0].error_code;
        assert_eq!(error, ErrorCode::InvalidRecord.as_i16(), "{records:?}");
    }
    for cut in [1, 12, 60, sound.len() - 1] {
        fixture.refuses(&sound[..cut], ErrorCode::InvalidRecord);
    }
    fixture.refuses(&[sound.clone(), sound.clone()].concat(), ErrorCode::InvalidRecord);
    fixture.ends_well();
}

#[test]
fn batches_that_only_brokers_write_are_refused() {
    let mut fixture = Fixture::new();
    fixture.refuses_with(ATTRIBUTES_OFFSET + 1, &[CONTROL], ErrorCode::InvalidRecord);
    fixture.ends_well();
}

/// Hazard 89.
#[test]
fn transactions_are_refused_by_name_and_nothing_of_them_is_stored() {
    let mut fixture = Fixture::new();
    let refused = ErrorCode::TransactionalIdAuthorizationFailed;
    fixture.refuses_with(ATTRIBUTES_OFFSET + 1, &[TRANSACTIONAL], refused);
    fixture.refuses_with(ATTRIBUTES_OFFSET + 1, &[TRANSACTIONAL | CONTROL], refused);
    let sound = batch(b"sound");
    let mut request = Connection::produce_request("t", 0, -1, Some(&sound));
    request.transactional_id = Some("tx".to_owned());
    let response = fixture.client.call(9, &request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, refused.as_i16());
    assert_eq!(fixture.client.fetch("t", 0, 0).high_watermark, 0);
    fixture.ends_well();
}

#[test]
fn codecs_that_do_not_exist_are_refused() {
    let mut fixture = Fixture::new();
    for codec in [5, 6, 7] {
        let mut batch = batch(b"value");
        batch[ATTRIBUTES_OFFSET + 1] = codec;
        reseal(&mut batch);
        let error = fixture.client.refusal("t", &batch);
        assert!(error != ErrorCode::None, "codec {codec} was accepted");
        assert!(!error.is_retriable() || error == ErrorCode::CorruptMessage, "{error:?}");
    }
    fixture.ends_well();
}

#[test]
fn zstd_needs_a_version_that_knows_it() {
    let mut fixture = Fixture::new();
    let mut zstd = batch(b"value");
    zstd[ATTRIBUTES_OFFSET + 1] = 4;
    reseal(&mut zstd);
    let request = Connection::produce_request("t", 0, -1, Some(&zstd));
    for version in [3, 6] {
        let response = fixture.client.call(version, &request);
        let error = response.responses[0].partition_responses[0].error_code;
        assert_eq!(error, ErrorCode::UnsupportedCompressionType.as_i16());
    }
    fixture.ends_well();
}

#[test]
fn a_batch_above_the_limit_is_too_large() {
    let mut fixture = Fixture::new();
    fixture.refuses(&batch(&vec![b'x'; 1_048_589]), ErrorCode::MessageTooLarge);
    fixture.refuses(&batch(&vec![b'x'; 20 << 20]), ErrorCode::MessageTooLarge);
    // A header that claims to be large is not believed to be small either.
    fixture.client.produce("t", &batch(&vec![b'x'; 1_048_000]));
    fixture.ends_well();
}

#[test]
fn acks_that_do_not_exist_are_refused_for_every_partition() {
    let mut fixture = Fixture::new();
    for acks in [2, 5, -2, i16::MAX, i16::MIN] {
        let produced = fixture.client.try_produce("t", 0, acks, &batch(b"value"));
        assert_eq!(produced.error_code, ErrorCode::InvalidRequiredAcks.as_i16(), "acks={acks}");
    }
    assert_eq!(fixture.client.fetch("t", 0, 0).high_watermark, 0);
    fixture.ends_well();
}

#[test]
fn unknown_topics_and_partitions_are_named_as_such() {
    let mut fixture = Fixture::new();
    let value = batch(b"value");
    for (topic, partition) in
        [("nope", 0), ("t", 1), ("t", -1), ("t", i32::MAX), ("t", i32::MIN), ("", 0), ("../t", 0)]
    {
        let produced = fixture.client.try_produce(topic, partition, -1, &value);
        let expected = ErrorCode::UnknownTopicOrPartition.as_i16();
        assert_eq!(produced.error_code, expected, "{topic:?} {partition}");
    }
    fixture.ends_well();
}

#[test]
fn one_bad_partition_does_not_spoil_the_others() {
    let mut fixture = Fixture::new();
    fixture.client.create_topic("three", 3);
    let mut wrong = batch(b"wrong");
    wrong[CRC_OFFSET] ^= 1;
    let mut request = Connection::produce_request("three", 0, -1, Some(&batch(b"0")));
    let bad = Connection::produce_request("three", 1, -1, Some(&wrong));
    let last = Connection::produce_request("three", 2, -1, Some(&batch(b"2")));
    for other in [bad, last] {
        let part = other.topic_data[0].partition_data[0].clone();
        request.topic_data[0].partition_data.push(part);
    }
    let response = fixture.client.call(9, &request);
    let parts = &response.responses[0].partition_responses;
    let codes: Vec<_> = parts.iter().map(|part| (part.index, part.error_code)).collect();
    assert_eq!(codes, [(0, 0), (1, ErrorCode::CorruptMessage.as_i16()), (2, 0)]);
    fixture.ends_well();
}

#[test]
fn internal_topics_take_nothing_from_clients() {
    let mut fixture = Fixture::new();
    fixture.client.find_coordinator("g");
    let produced = fixture.client.try_produce("__consumer_offsets", 0, -1, &batch(b"value"));
    assert_eq!(produced.error_code, ErrorCode::InvalidTopicException.as_i16());
    fixture.ends_well();
}

#[test]
fn acks_0_that_fails_closes_the_connection_after_the_earlier_answers() {
    let mut fixture = Fixture::new();
    let mut client = fixture.broker.connect();
    client.send(9, &Connection::produce_request("t", 0, 1, Some(&batch(b"first"))));
    client.send(9, &Connection::produce_request("nope", 0, 0, Some(&batch(b"lost"))));
    let first = client.receive_behind::<klamm_protocol::messages::ProduceRequest>(9, 1);
    assert_eq!(first.responses[0].partition_responses[0].error_code, 0);
    client.assert_closed();
    // Without an error nothing is answered and the connection goes on.
    fixture.client.send(9, &Connection::produce_request("t", 0, 0, Some(&batch(b"second"))));
    assert_eq!(fixture.client.produce("t", &batch(b"third")), 2);
    fixture.ends_well();
}

/// Hazards 49 and 81.
#[test]
fn sequences_are_checked_and_duplicates_answered_like_their_originals() {
    let mut fixture = Fixture::new();
    let (id, epoch) = fixture.client.init_producer();
    let send = |sequence, value: &[u8]| idempotent(id, epoch, sequence, &[value]);
    for sequence in 0..6 {
        assert_eq!(fixture.client.produce("t", &send(sequence, b"x")), i64::from(sequence));
    }
    // Any of the last five again: the same offset, and nothing appended.
    for sequence in 1..6 {
        assert_eq!(fixture.client.produce("t", &send(sequence, b"x")), i64::from(sequence));
    }
    assert_eq!(fixture.client.fetch("t", 0, 0).high_watermark, 6);
    // A gap, and one that is older than what is remembered.
    fixture.refuses(&send(7, b"gap"), ErrorCode::OutOfOrderSequenceNumber);
    fixture.refuses(&send(i32::MAX, b"gap"), ErrorCode::OutOfOrderSequenceNumber);
    fixture.refuses(&send(0, b"x"), ErrorCode::OutOfOrderSequenceNumber);
    // A newer epoch starts at 0 and shuts the older one out.
    let newer = idempotent(id, epoch + 1, 0, &[b"newer"]);
    assert_eq!(fixture.client.produce("t", &newer), 6);
    fixture.refuses(&send(6, b"older"), ErrorCode::InvalidProducerEpoch);
    let wrong_start = idempotent(id, epoch + 2, 3, &[b"wrong start"]);
    fixture.refuses(&wrong_start, ErrorCode::OutOfOrderSequenceNumber);
    fixture.ends_well();
}

/// Hazard 50: the sequence after 2^31-1 is 0.
#[test]
fn a_producer_id_without_an_epoch_or_a_sequence_is_refused() {
    let mut fixture = Fixture::new();
    for sequence in [-1, i32::MIN] {
        fixture.refuses(&idempotent(7, 0, sequence, &[b"x"]), ErrorCode::InvalidRecord);
    }
    for epoch in [-1, i16::MIN] {
        fixture.refuses(&idempotent(7, epoch, 0, &[b"x"]), ErrorCode::InvalidProducerEpoch);
    }
    // Unknown to this log, any first sequence will do.
    fixture.client.produce("t", &idempotent(i64::MAX, i16::MAX, i32::MAX, &[b"last"]));
    fixture.client.produce("t", &idempotent(i64::MAX, i16::MAX, 0, &[b"and round"]));
    fixture.ends_well();
}
