#!/usr/bin/env python3
"""How long after the producer's acknowledgement a waiting consumer has the record: the median must be under 10 ms.

The consumer has Kafka's default fetch settings (one byte is enough, wait up to 500 ms) and stands at the end of the
log when each record is sent. Both ends are in this process, so one clock tells both times.
"""

import os
import pathlib
import random
import statistics
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

import cases
import cluster
from confluent_kafka import Consumer, Producer, TopicPartition

RECORDS = 400
WARM_UP = 20
LIMIT_MS = 10
DEADLINE_S = 30


class Waiting(threading.Thread):
    """The consumer; notes when it got each record."""

    def __init__(self, bootstrap, topic):
        super().__init__(daemon=True)
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "never-joined", "auto.offset.reset": "earliest"})
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._got = threading.Condition()
        self._times = []
        self._leave = False
        self.start()

    def run(self):
        while not self._leave:
            message = self._consumer.poll(0.5)
            now = time.monotonic()
            if message is not None and not message.error():
                with self._got:
                    self._times.append(now)
                    self._got.notify()
        self._consumer.close()

    def time_of(self, index):
        with self._got:
            there = self._got.wait_for(lambda: len(self._times) > index, DEADLINE_S)
            cases.expect(there, f"record {index} did not come within {DEADLINE_S} s")
            return self._times[index]

    def leave(self):
        self._leave = True
        self.join(DEADLINE_S)


def send(producer, topic, value):
    """Sends one record; returns how long its acknowledgement took, and when it came."""
    acknowledged = []

    def on_delivery(error, _):
        acknowledged.append(error or time.monotonic())

    started = time.monotonic()
    producer.produce(topic, value, partition=0, on_delivery=on_delivery)
    producer.flush(DEADLINE_S)
    cases.expect(acknowledged and isinstance(acknowledged[0], float), f"not acknowledged: {acknowledged}")
    return acknowledged[0] - started, acknowledged[0]


def measure(bootstrap, settings, what, strike=lambda: None):
    """`strike` is called when half of the records are through."""
    topic, pauses = f"foreign-{uuid.uuid4()}", random.Random(0)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0} | settings)
    send(producer, topic, b"creates the topic")
    consumer = Waiting(bootstrap, topic)
    consumer.time_of(0)
    acknowledgements, receipts, struck = [], [], None
    for index in range(1, WARM_UP + RECORDS):
        if index == WARM_UP + RECORDS // 2:
            struck = strike()
        time.sleep(pauses.uniform(0.002, 0.02))  # So that the records come at any moment of the consumer's wait.
        took, acknowledged = send(producer, topic, b"x" * 100)
        receipt = consumer.time_of(index) - acknowledged
        if index >= WARM_UP:
            acknowledgements.append(took * 1000)
            receipts.append(receipt * 1000)
    consumer.leave()
    if struck:
        print(f"{what}, the ensemble's leader killed in the middle: {struck.told()}", flush=True)
    print(f"{what}: send to acknowledgement {spread(acknowledgements)}; acknowledgement to receipt {spread(receipts)}", flush=True)
    median = statistics.median(receipts)
    cases.expect(median < LIMIT_MS, f"median from acknowledgement to receipt is {median:.2f} ms, limit {LIMIT_MS} ms")


def spread(milliseconds):
    """Negative: the consumer had it before the producer heard of it."""
    ordered = sorted(milliseconds)
    at = lambda part: ordered[int(part * (len(ordered) - 1))]  # noqa: E731
    return f"median {at(0.5):.2f}, 90 % {at(0.9):.2f}, 99 % {at(0.99):.2f}, worst {at(1):.2f} ms"


def main():
    broker, more = None, ()
    if len(sys.argv) > 1:
        bootstrap = sys.argv[1]
    else:
        broker = cluster.make(os.environ.get("KLAMM_BROKER_COMMAND")).start()
        bootstrap, more = broker.bootstrap, (broker.strike,)
    suite = cases.Cases()
    suite.run("a waiting consumer, acks=all", measure, bootstrap, {"acks": "all", "enable.idempotence": True}, "acks=all", *more)
    suite.run("a waiting consumer, acks=1", measure, bootstrap, {"acks": "1"}, "acks=1", *more)
    if broker:
        broker.remove()
    suite.exit()


if __name__ == "__main__":
    main()
