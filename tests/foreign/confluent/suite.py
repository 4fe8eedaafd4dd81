#!/usr/bin/env python3
"""confluent-kafka: librdkafka 2.16 from Python."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

import cases
import sample
import scenarios
from confluent_kafka import OFFSET_END, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

REQUEST_S = 30


def passes(error):
    """Told of a subscribed topic that the broker asked does not know: librdkafka goes on asking by itself.

    In a cluster that passes: a broker that is cut off from the ensemble hears of a new topic when it is back.
    """
    expected = cases.replication_factor() > 1 and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    if expected:
        print(f"{time.strftime('%H:%M:%S')} passes: {error}", file=sys.stderr, flush=True)
    return expected


class ConfluentConsumer:
    def __init__(self, bootstrap, group):
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": group or "never-joined",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 500,
            "topic.metadata.refresh.interval.ms": 5_000,
        })

    def subscribe(self, topic):
        self._consumer.subscribe([topic])

    def assign(self, topic, start):
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in start.items()])

    def poll(self):
        found = []
        for message in self._consumer.consume(num_messages=500, timeout=0.1):
            if message.error():
                if passes(message.error()):
                    continue
                raise RuntimeError(message.error())
            record = sample.Record(
                message.key(), message.value(), tuple(message.headers() or ()), message.timestamp()[1]
            )
            found.append((message.partition(), message.offset(), record))
        return found

    def assigned(self):
        return {each.partition for each in self._consumer.assignment()}

    def commit(self):
        for each in self._consumer.commit(asynchronous=False):
            if each.error:
                raise RuntimeError(each.error)

    def offset_for_time(self, topic, partition, timestamp):
        asked = TopicPartition(topic, partition, timestamp)
        [found] = self._consumer.offsets_for_times([asked], timeout=REQUEST_S)
        return None if found.offset == OFFSET_END else found.offset

    def close(self):
        self._consumer.close()


class Confluent:
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def __init__(self, bootstrap):
        self._bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._producers = {}

    @staticmethod
    def can_send(_record):
        return True

    def create_topic(self, topic, partitions):
        wanted = NewTopic(topic, num_partitions=partitions, replication_factor=cases.replication_factor())
        self._admin.create_topics([wanted], operation_timeout=REQUEST_S)[topic].result(REQUEST_S)

    def partitions_of(self, topic):
        found = self._admin.list_topics(timeout=REQUEST_S).topics.get(topic)
        if found is None or (found.error and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
            return None
        return len(found.partitions)

    def delete_topic(self, topic):
        self._admin.delete_topics([topic], operation_timeout=REQUEST_S)[topic].result(REQUEST_S)

    def publish(self, topic, batch, codec):
        producer = self._producer(codec)
        offsets = [None] * len(batch)

        def delivered(index):
            def on_delivery(error, message):
                offsets[index] = error or message.offset()
            return on_delivery

        for index, (partition, record) in enumerate(batch):
            producer.produce(
                topic, record.value, record.key, partition,
                on_delivery=delivered(index), timestamp=record.timestamp, headers=list(record.headers),
            )
        cases.expect_equal(producer.flush(REQUEST_S), 0, "records without an answer")
        for offset in offsets:
            cases.expect(isinstance(offset, int), f"a record was refused: {offset}")
        return offsets

    def _producer(self, codec):
        """One producer a codec for the whole suite: librdkafka takes half a second to get a producer id."""
        if codec not in self._producers:
            self._producers[codec] = Producer({
                "bootstrap.servers": self._bootstrap,
                "compression.type": codec,
                "enable.idempotence": True,
                "linger.ms": 5,
            })
        return self._producers[codec]

    def consumer(self, group=None):
        return ConfluentConsumer(self._bootstrap, group)


if __name__ == "__main__":
    scenarios.run(Confluent(cases.bootstrap()))
