#!/usr/bin/env python3
"""aiokafka: asyncio; speaks none of the flexible versions. Its loop runs in one thread for the whole suite."""

import asyncio
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

import cases
import sample
import scenarios
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

REQUEST_S = 30

loop = asyncio.new_event_loop()


def wait_for(coroutine):
    """Runs a coroutine on the suite's loop and waits for what it returns."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(REQUEST_S)


class AiokafkaConsumer:
    def __init__(self, bootstrap, group):
        self._consumer = wait_for(self._started(bootstrap, group))

    @staticmethod
    async def _started(bootstrap, group):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=500,
        )
        await consumer.start()
        return consumer

    def subscribe(self, topic):
        async def subscribe():
            self._consumer.subscribe([topic])
        wait_for(subscribe())

    def assign(self, topic, start):
        async def assign():
            self._consumer.assign([TopicPartition(topic, partition) for partition in start])
            for partition, offset in start.items():
                self._consumer.seek(TopicPartition(topic, partition), offset)
        wait_for(assign())

    def poll(self):
        found = []
        for where, messages in wait_for(self._consumer.getmany(timeout_ms=100)).items():
            for message in messages:
                record = sample.Record(message.key, message.value, tuple(message.headers), message.timestamp)
                found.append((where.partition, message.offset, record))
        return found

    def assigned(self):
        return {each.partition for each in self._consumer.assignment()}

    def commit(self):
        wait_for(self._consumer.commit())

    def offset_for_time(self, topic, partition, timestamp):
        where = TopicPartition(topic, partition)
        found = wait_for(self._consumer.offsets_for_times({where: timestamp}))[where]
        return None if found is None else found.offset

    def close(self):
        wait_for(self._consumer.stop())


class Aiokafka:
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")

    def __init__(self, bootstrap):
        self._bootstrap = bootstrap
        self._admin = wait_for(self._started())

    @staticmethod
    def can_send(record):
        """Its producer refuses a record that has neither key nor value."""
        return record.key is not None or record.value is not None

    async def _started(self):
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        return admin

    def create_topic(self, topic, partitions):
        wanted = NewTopic(topic, num_partitions=partitions, replication_factor=cases.replication_factor())
        answer = wait_for(self._admin.create_topics([wanted], timeout_ms=REQUEST_S * 1000))
        cases.expect_equal([error[1] for error in answer.topic_errors], [0], f"creating {topic}")

    def partitions_of(self, topic):
        # All are asked for: a topic that is named, and that the asked broker does not know, would be created by that.
        found = [each for each in wait_for(self._admin.describe_topics()) if each["topic"] == topic]
        return len(found[0]["partitions"]) if found else None

    def delete_topic(self, topic):
        answer = wait_for(self._admin.delete_topics([topic], timeout_ms=REQUEST_S * 1000))
        cases.expect_equal([error[1] for error in answer.topic_error_codes], [0], f"deleting {topic}")

    def publish(self, topic, batch, codec):
        return wait_for(self._publish(topic, batch, codec))

    async def _publish(self, topic, batch, codec):
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=True,
            linger_ms=5,
        )
        await producer.start()
        try:
            answers = [
                await producer.send(
                    topic, record.value, record.key, partition, record.timestamp, list(record.headers)
                )
                for partition, record in batch
            ]
            return [(await answer).offset for answer in answers]
        finally:
            await producer.stop()

    def consumer(self, group=None):
        return AiokafkaConsumer(self._bootstrap, group)


if __name__ == "__main__":
    threading.Thread(target=loop.run_forever, daemon=True).start()
    scenarios.run(Aiokafka(cases.bootstrap()))
