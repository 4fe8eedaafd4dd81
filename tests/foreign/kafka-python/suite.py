#!/usr/bin/env python3
"""kafka-python 3: pure Python, speaks newer versions than aiokafka and older ones than librdkafka."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

import cases
import sample
import scenarios
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

REQUEST_S = 30


class KafkaPythonConsumer:
    def __init__(self, bootstrap, group):
        # A poll that times out in the middle of a join loses the assignment for good (kafka-python 3.0.12).
        self._poll_ms = 2000 if group else 100
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=500,
        )

    def subscribe(self, topic):
        self._consumer.subscribe([topic])

    def assign(self, topic, start):
        self._consumer.assign([TopicPartition(topic, partition) for partition in start])
        for partition, offset in start.items():
            self._consumer.seek(TopicPartition(topic, partition), offset)

    def poll(self):
        found = []
        for where, messages in self._consumer.poll(timeout_ms=self._poll_ms).items():
            for message in messages:
                record = sample.Record(message.key, message.value, tuple(message.headers), message.timestamp)
                found.append((where.partition, message.offset, record))
        return found

    def assigned(self):
        return {each.partition for each in self._consumer.assignment()}

    def commit(self):
        self._consumer.commit()

    def offset_for_time(self, topic, partition, timestamp):
        where = TopicPartition(topic, partition)
        found = self._consumer.offsets_for_times({where: timestamp})[where]
        return None if found is None else found.offset

    def close(self):
        self._consumer.close(autocommit=False)


class KafkaPython:
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def __init__(self, bootstrap):
        self._bootstrap = bootstrap
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    @staticmethod
    def can_send(record):
        """Its producer refuses a header without a value."""
        return all(value is not None for _, value in record.headers)

    def create_topic(self, topic, partitions):
        wanted = {"num_partitions": partitions, "replication_factor": cases.replication_factor()}
        self._admin.create_topics({topic: wanted})

    def partitions_of(self, topic):
        # All are asked for: a topic that is named, and that the asked broker does not know, might be created by that.
        found = [each for each in self._admin.describe_topics() if each["name"] == topic]
        return len(found[0]["partitions"]) if found else None

    def delete_topic(self, topic):
        self._admin.delete_topics([topic])

    def publish(self, topic, batch, codec):
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap,
            compression_type=None if codec == "none" else codec,
            linger_ms=5,
        )
        try:
            answers = [
                producer.send(
                    topic, record.value, record.key, list(record.headers), partition, record.timestamp
                )
                for partition, record in batch
            ]
            return [answer.get(REQUEST_S).offset for answer in answers]
        finally:
            producer.close(REQUEST_S)

    def consumer(self, group=None):
        return KafkaPythonConsumer(self._bootstrap, group)


if __name__ == "__main__":
    scenarios.run(KafkaPython(cases.bootstrap()))
