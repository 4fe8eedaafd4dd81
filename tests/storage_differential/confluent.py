#!/usr/bin/env python3
"""What confluent-kafka (librdkafka) sees of one broker's logs, as JSON lines: confluent.py HOST:PORT [GROUP OF CASES…]."""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, OffsetSpec,
)

DEADLINE_S = 60
# As many replicas as the broker gives: one, or three in a cluster.
BY_DEFAULT = -1
BASE_MS = 1_600_000_000_000
LATE_MS = 4_000_000_000_000
GROUP_MS = 10_000
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
KEYS = (
    "cleanup.policy", "retention.ms", "retention.bytes", "segment.ms", "min.cleanable.dirty.ratio", "delete.retention.ms",
    "message.timestamp.type", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms", "max.message.bytes",
)
SEEKS = (0, 1, 17, 36, 37, 38, 99, 100, 1000)


class Broker:
    """One broker and the case that is being run against it."""

    def __init__(self, bootstrap):
        self._bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._producers = {}
        self.case = None

    def say(self, step, **fields):
        print(json.dumps({"case": self.case, "step": step, **fields}, sort_keys=True), flush=True)

    def create(self, topic, **settings):
        named = {key.replace("_", "."): str(value) for key, value in settings.items()}
        self._admin.create_topics([NewTopic(topic, 1, BY_DEFAULT, config=named)])[topic].result(DEADLINE_S)

    def alter(self, topic, key, value):
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result(DEADLINE_S)

    def delete_records(self, topic, offset):
        asked = TopicPartition(topic, 0, offset)
        try:
            low = self._admin.delete_records([asked])[asked].result(DEADLINE_S).low_watermark
            self.say("delete-records", before=offset, low_watermark=low)
        except KafkaException as error:
            self.say("delete-records", before=offset, error=error.args[0].name())

    def produce(self, topic, records, codec="none"):
        """One batch; says every answer."""
        if codec not in self._producers:
            self._producers[codec] = Producer({
                "bootstrap.servers": self._bootstrap, "compression.type": codec, "linger.ms": 2_000,
                "message.max.bytes": 4_000_000, "topic.metadata.refresh.interval.ms": 1_000,
            })
        producer, answers = self._producers[codec], []
        # A producer that does not know the topic yet may send the first records as a batch of their own.
        producer.list_topics(topic, timeout=DEADLINE_S)

        def answered(error, message):
            if error:
                answers.append({"error": error.name()})
            else:
                answers.append({"offset": message.offset(), "timestamp": message.timestamp()[1], "type": message.timestamp()[0]})

        for key, value, headers, timestamp in records:
            producer.produce(
                topic, value=value, key=key, partition=0, on_delivery=answered, timestamp=timestamp, headers=headers,
            )
        producer.flush(DEADLINE_S)
        self.say("produced", codec=codec, answers=answers)

    def bounds(self, topic):
        consumer = self._consumer("earliest")
        try:
            return consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=DEADLINE_S)
        finally:
            consumer.close()

    def await_start(self, topic, offset):
        """Waits for the earliest offset; how it went is compared as well."""
        deadline = time.monotonic() + DEADLINE_S
        while self.bounds(topic)[0] != offset and time.monotonic() < deadline:
            time.sleep(0.1)
        self.say("start", bounds=self.bounds(topic))

    def await_records(self, topic, offsets):
        """Waits until exactly these records are left."""
        deadline = time.monotonic() + DEADLINE_S
        found = None
        while found != offsets and time.monotonic() < deadline:
            found = [message.offset() for message in self._read(topic)]
        self.say("left", offsets=found)

    def observe(self, topic, times=()):
        low, high = self.bounds(topic)
        self.say("bounds", low=low, high=high)
        for message in self._read(topic):
            kind, timestamp = message.timestamp()
            self.say(
                "record", offset=message.offset(), key=_text(message.key()), value=_text(message.value()),
                headers=[[name, _text(value)] for name, value in message.headers() or ()], timestamp=timestamp,
                type=kind, leader_epoch=message.leader_epoch(),
            )
        consumer = self._consumer("earliest")
        # Kafka finds nothing by an old time until it has removed the segments of a deleted prefix.
        deadline = time.monotonic() + DEADLINE_S
        while low < high and time.monotonic() < deadline:
            if consumer.offsets_for_times([TopicPartition(topic, 0, 0)], timeout=DEADLINE_S)[0].offset >= 0:
                break
        for asked in times:
            [found] = consumer.offsets_for_times([TopicPartition(topic, 0, asked)], timeout=DEADLINE_S)
            self.say("offset-for-time", asked=asked, offset=found.offset)
        consumer.close()
        specs = {"earliest": OffsetSpec.earliest(), "latest": OffsetSpec.latest(), "max": OffsetSpec.max_timestamp()}
        for name, spec in specs.items():
            partition = TopicPartition(topic, 0)
            found = self._admin.list_offsets({partition: spec})[partition].result(DEADLINE_S)
            self.say(f"list-offsets.{name}", offset=found.offset, timestamp=found.timestamp, leader_epoch=found.leader_epoch)
        for reset in ("earliest", "latest", "error"):
            for offset in SEEKS:
                self._seek(topic, reset, offset)

    def _seek(self, topic, reset, offset):
        consumer = self._consumer(reset)
        consumer.assign([TopicPartition(topic, 0, offset)])
        [message] = consumer.consume(1, timeout=DEADLINE_S) or [None]
        found = None if message is None else message.offset()
        error = None if message is None or message.error() is None else message.error().name()
        [position] = consumer.position([TopicPartition(topic, 0)])
        self.say("seek", reset=reset, offset=offset, found=found, error=error, position=position.offset)
        consumer.close()

    def commits(self, topic, offset):
        """A commit inside what is deleted or compacted away is kept, and where its group goes on."""
        consumer = self._consumer("earliest", topic)
        place = TopicPartition(topic, 0, offset, "kept")
        consumer.commit(offsets=[place], asynchronous=False)
        [kept] = consumer.committed([TopicPartition(topic, 0)], timeout=DEADLINE_S)
        self.say("committed", offset=kept.offset, metadata=kept.metadata)
        consumer.assign([TopicPartition(topic, 0)])
        [message] = consumer.consume(1, timeout=DEADLINE_S)
        self.say("goes-on", offset=message.offset())
        consumer.close()

    def configs(self, topic):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = self._admin.describe_configs([resource])[resource].result(DEADLINE_S)
        for key in KEYS:
            entry = found[key]
            self.say("config", key=key, value=entry.value, source=entry.source, read_only=entry.is_read_only,
                     synonyms=[[each.name, each.value, each.source] for each in entry.synonyms.values()])

    def _consumer(self, reset, group="observer"):
        return Consumer({
            "bootstrap.servers": self._bootstrap, "group.id": group, "enable.auto.commit": False,
            "auto.offset.reset": reset, "enable.partition.eof": True, "fetch.wait.max.ms": 50,
        })

    def _read(self, topic):
        """All records; their end is what the broker says it is."""
        consumer, found = self._consumer("earliest"), []
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            [message] = consumer.consume(1, timeout=DEADLINE_S)
            if not message.error():
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                consumer.close()
                return found
            else:
                raise KafkaException(message.error())


def _text(value):
    return None if value is None else value.decode()


def group(number, base=BASE_MS, keyless=True):
    """Five records: one batch. The third is older than the second. Keys that come once leave records between holes."""
    records = []
    for turn in range(5):
        i = number * 5 + turn
        key = None if keyless and i % 11 == 0 else f"only-{i}" if i % 10 == 7 else f"key-{i % 7}"
        value = None if i % 5 == 3 else f"value-{i}-" + "x" * (i % 3 * 100)
        headers = [("one", f"header-{i}"), ("one", None), ("empty", b"")] if i % 2 else []
        records.append((key, value, headers, base + number * GROUP_MS + turn * 10 - (500 if turn == 2 else 0)))
    return records


def fill(broker, topic, groups=20, **how):
    for number in range(groups):
        broker.produce(topic, group(number, **how), CODECS[number % 5])


TIMES = (0, BASE_MS, BASE_MS + 1, BASE_MS + 70_000, BASE_MS + 70_015, BASE_MS + 190_040, BASE_MS + 190_041, LATE_MS)


def prefix(broker):
    topic = "prefix"
    broker.create(topic, retention_ms=-1, segment_ms=5_000)
    fill(broker, topic)
    broker.configs(topic)
    broker.observe(topic, TIMES)
    broker.delete_records(topic, 37)
    broker.observe(topic, TIMES)
    broker.commits(topic, 12)
    for refused in (20, 101, -2):
        broker.delete_records(topic, refused)
    broker.case = "emptied"
    broker.delete_records(topic, -1)
    broker.observe(topic, TIMES)
    broker.case = "refilled"
    broker.produce(topic, group(20))
    broker.observe(topic, TIMES)


def by_time(broker):
    topic = "by-time"
    broker.create(topic, retention_ms=-1, segment_ms=5_000, message_timestamp_after_max_ms=2**63 - 1)
    fill(broker, topic, 8)
    fill(broker, topic, 2, base=LATE_MS)
    broker.alter(topic, "retention.ms", "86400000")
    broker.await_start(topic, 40)
    broker.observe(topic, (*TIMES, LATE_MS + 10_000, LATE_MS + 20_000))


def by_size(broker):
    topic = "by-size"
    broker.create(topic, retention_ms=-1, segment_ms=5_000)
    fill(broker, topic, 10)
    broker.alter(topic, "retention.bytes", "1")
    broker.await_start(topic, 45)
    broker.observe(topic, TIMES)


def stamped(broker):
    topic = "stamped"
    broker.create(topic, retention_ms=-1, message_timestamp_type="LogAppendTime")
    for number in range(5):
        broker.produce(topic, group(number), CODECS[number])
        # No two batches get the same stamp, however fast the broker is: the newest one is the last.
        last = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == last:
            time.sleep(0.001)
    broker.configs(topic)
    broker.observe(topic, (0, BASE_MS, LATE_MS))
    broker.delete_records(topic, 7)
    broker.observe(topic, (0, BASE_MS, LATE_MS))


def refused(broker):
    topic = "refused"
    hour = 3_600_000
    broker.create(topic, message_timestamp_before_max_ms=hour, message_timestamp_after_max_ms=hour, max_message_bytes=2_000)
    broker.produce(topic, group(0))
    broker.produce(topic, group(0, base=LATE_MS))
    broker.produce(topic, [("key", "x" * 3_000, [], 0)])
    broker.create("keyed", cleanup_policy="compact")
    # All without a key, however they are divided into batches.
    keyless = [(None, *record[1:]) for record in group(0)]
    for codec in CODECS:
        broker.produce("keyed", keyless, codec)
    broker.observe("keyed")
    broker.observe(topic)


def compacted(broker, policy="compact"):
    topic = policy.replace(",", "-")
    broker.create(topic, cleanup_policy=policy, retention_ms=-1, segment_ms=5_000, min_cleanable_dirty_ratio=0)
    fill(broker, topic, keyless=False)
    newest = {}
    for number in range(19):
        newest |= {record[0]: number * 5 + turn for turn, record in enumerate(group(number, keyless=False))}
    broker.await_records(topic, sorted(newest.values()) + list(range(95, 100)))
    broker.configs(topic)
    broker.observe(topic, TIMES)
    broker.commits(topic, 12)
    broker.delete_records(topic, 91)
    broker.observe(topic, TIMES)


def compacted_and_deleted(broker):
    compacted(broker, "compact,delete")


GROUPS = {
    "retained": (prefix, by_time, by_size, stamped, refused),
    "compacted": (compacted, compacted_and_deleted),
}

if __name__ == "__main__":
    broker = Broker(sys.argv[1])
    for name in sys.argv[2:] or GROUPS:
        for case in GROUPS[name]:
            broker.case = case.__name__.replace("_", "-")
            case(broker)
