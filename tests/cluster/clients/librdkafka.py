#!/usr/bin/env python3
"""librdkafka under load: says, a line a thing, what it did and saw (../README.md has the lines).

    librdkafka.py produce BOOTSTRAP TOPIC PARTITIONS FIRST_ID idempotent|plain|leader
    librdkafka.py consume BOOTSTRAP TOPIC GROUP

It ends in order when its standard input ends.
"""

import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

PAUSE_S = 0.05
UNANSWERED_MAX = 200
COMMIT_EVERY_S = 0.2
COMMITTED_S = 10
FLUSH_S = 60
PADDING = "x" * 150
# Quick to notice and to try again: what is measured is the broker.
SETTINGS = {
    "socket.timeout.ms": 3000,
    "socket.connection.setup.timeout.ms": 1000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 200,
    "retry.backoff.ms": 50,
    "retry.backoff.max.ms": 200,
    "topic.metadata.refresh.interval.ms": 1000,
    "topic.metadata.refresh.fast.interval.ms": 100,
}
KINDS = {
    # Never gives up.
    "idempotent": {"enable.idempotence": True, "message.timeout.ms": 300_000},
    # Gives up soon, so that there are records of unknown fate; one request at a time keeps the order.
    "plain": {"acks": "all", "message.timeout.ms": 1500, "max.in.flight": 1},
    "leader": {"acks": "1", "message.timeout.ms": 1500, "max.in.flight": 1},
}
over = threading.Event()


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def name(error):
    return f"{error.name()} {error.str()}".replace("\n", " ")


def on_error(error):
    # librdkafka goes on by itself after all but the fatal ones.
    say("E" if error.fatal() else "I", name(error))


def produce(bootstrap, topic, partitions, first_id, kind):
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "error_cb": on_error} | SETTINGS | KINDS[kind])
    unanswered = [0] * partitions
    next_id = first_id

    def delivered(record_id):
        def on_delivery(error, message):
            unanswered[message.partition()] -= 1
            if error:
                say("F", record_id, name(error))
            else:
                # Without an offset: a later answer told that the record was there already.
                offset = message.offset()
                say("A", record_id, -1 if offset is None else offset)
        return on_delivery

    while not over.is_set():
        for partition in range(partitions):
            if unanswered[partition] < UNANSWERED_MAX:
                unanswered[partition] += 1
                say("S", next_id, partition)
                value = f"{next_id} {PADDING}"
                producer.produce(topic, value, partition=partition, on_delivery=delivered(next_id))
                next_id += 1
        # When a record was sent is when its line is heard.
        sys.stdout.flush()
        until = time.monotonic() + PAUSE_S
        while (left := until - time.monotonic()) > 0:
            producer.poll(left)
            sys.stdout.flush()
    if left := producer.flush(FLUSH_S):
        say("E", left, "records have no answer")


def consume(bootstrap, topic, group):
    positions = {}
    committing = False

    def on_commit(error, partitions):
        nonlocal committing
        committing = False
        for each in partitions:
            if error or each.error:
                say("I", "commit:", name(error or each.error))
            else:
                say("C", each.partition, each.offset)

    def on_assign(consumer, partitions):
        try:
            partitions = consumer.committed(partitions, timeout=COMMITTED_S)
        except KafkaException as failed:
            say("I", "committed:", name(failed.args[0]))
        for each in partitions:
            if each.error:
                say("I", "committed:", name(each.error))
        known = [each for each in partitions if not each.error and each.offset >= 0]
        for each in partitions:
            say("M", each.partition, each.offset if each in known else -1)
        positions.clear()
        consumer.assign([TopicPartition(each.topic, each.partition, each.offset) if each in known
                         else TopicPartition(each.topic, each.partition) for each in partitions])

    def on_revoke(_consumer, _partitions):
        positions.clear()

    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 100, "fetch.error.backoff.ms": 50,
        "error_cb": on_error, "on_commit": on_commit,
    } | SETTINGS)
    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_revoke)
    commit_at = 0
    while not over.is_set():
        message = consumer.poll(0.05)
        if message is not None and message.error():
            say("I" if message.error().retriable() else "E", name(message.error()))
        elif message is not None:
            say("P", message.partition(), message.offset(), message.value().split(b" ", 1)[0].decode())
            positions[message.partition()] = message.offset() + 1
        now = time.monotonic()
        if positions and not committing and now >= commit_at:
            commit_at = now + COMMIT_EVERY_S
            committing = True
            offsets = [TopicPartition(topic, partition, offset) for partition, offset in positions.items()]
            positions.clear()
            try:
                consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as failed:
                committing = False
                say("I", "commit:", name(failed.args[0]))
        sys.stdout.flush()
    consumer.close()


def wait_for_end():
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    threading.Thread(target=wait_for_end, daemon=True).start()
    verb, *arguments = sys.argv[1:]
    if verb == "produce":
        server, name_, partitions_, first_id_, kind_ = arguments
        produce(server, name_, int(partitions_), int(first_id_), kind_)
    else:
        consume(*arguments)
    sys.stdout.flush()
