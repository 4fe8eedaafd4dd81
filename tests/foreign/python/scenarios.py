"""What every Python client is put through. A client is described by an adapter (one file per client):

    codecs                                   the codecs it offers
    can_send(record)                         whether its producer takes such a record at all
    create_topic(topic, partitions)          with its own admin API
    partitions_of(topic)                     as its metadata says, or None if there is no such topic
    delete_topic(topic)
    publish(topic, [(partition, record)], codec) -> [offset]     all acknowledged
    consumer(group=None)                     a consumer with
        subscribe(topic) / assign(topic, {partition: offset})
        poll() -> [(partition, offset, record)]                  waits about 0.1 s at most
        assigned() -> {partition}
        commit()                             everything polled so far, waits for the answer
        offset_for_time(topic, partition, ms) -> offset or None
        close()
"""

import queue
import threading
import time
import uuid

import cases
import sample
from cases import expect, expect_equal

DEADLINE_S = 45


def run(adapter):
    """The whole suite; does not return."""
    suite = cases.Cases()
    suite.run("create, list and delete a topic", with_topic, adapter, 5, create_and_list)
    for codec in adapter.codecs:
        suite.run(f"publish and read back, {codec}", with_topic, adapter, 3, publish_and_read, codec)
    suite.run("group of two: join, share, leave, take over", with_topic, adapter, 4, group_of_two)
    suite.run("commit, leave, come back, continue", with_topic, adapter, 3, come_back)
    suite.run("seek to an offset", with_topic, adapter, 1, seek_to_offset)
    suite.run("seek to a timestamp", with_topic, adapter, 1, seek_to_timestamp)
    suite.run("a waiting consumer gets a new record", with_topic, adapter, 1, waiting_consumer)
    suite.exit()


def with_topic(adapter, partitions, body, *arguments):
    """Runs a case on a topic of its own, which is gone afterwards."""
    topic = f"foreign-{uuid.uuid4()}"
    adapter.create_topic(topic, partitions)
    try:
        body(adapter, topic, *arguments)
    finally:
        adapter.delete_topic(topic)


def until(what, condition, pause=None):
    """Calls `condition`, which itself waits a little (or `pause` does), until it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {DEADLINE_S} s: {what}")
        if pause:
            time.sleep(pause)


def create_and_list(adapter, topic):
    # Another broker than the one that created it is asked, as the client likes, and may hear of it a little later.
    until(f"5 partitions of {topic} in the metadata", lambda: adapter.partitions_of(topic) == 5, pause=0.05)
    adapter.delete_topic(topic)
    until(f"{topic} to be gone", lambda: adapter.partitions_of(topic) is None, pause=0.05)
    adapter.create_topic(topic, 2)
    until(f"2 partitions of {topic}, created again", lambda: adapter.partitions_of(topic) == 2, pause=0.05)


def publish_and_read(adapter, topic, codec):
    sent = [(index % 3, record) for index, record in enumerate(sample.records(120, adapter.can_send))]
    offsets = adapter.publish(topic, sent, codec)
    wanted = {partition: [] for partition in range(3)}
    for (partition, record), offset in zip(sent, offsets, strict=True):
        expect_equal(offset, len(wanted[partition]), f"acknowledged offset in partition {partition}")
        wanted[partition].append(record)
    read = read_from(adapter, topic, {0: 0, 1: 0, 2: 0}, len(sent))
    for partition, records in wanted.items():
        expect_equal([offset for offset, _ in read[partition]], list(range(40)), f"offsets of partition {partition}")
        for (offset, found), record in zip(read[partition], records, strict=True):
            expect_equal(found, record, f"record {offset} of partition {partition}")


def read_from(adapter, topic, start, count):
    """Reads `count` records from the given offsets: {partition: [(offset, record)]}."""
    consumer = adapter.consumer()
    read = {partition: [] for partition in start}
    try:
        consumer.assign(topic, start)

        def enough():
            for partition, offset, record in consumer.poll():
                read[partition].append((offset, record))
            return sum(map(len, read.values())) >= count

        until(f"{count} records of {topic} from {start}", enough)
    finally:
        consumer.close()
    expect_equal(sum(map(len, read.values())), count, "records read")
    return read


class Member(threading.Thread):
    """A group member that polls in a thread of its own, as a real one does."""

    def __init__(self, adapter, group, topic, name):
        super().__init__(daemon=True, name=name)
        self._make = lambda: adapter.consumer(group)
        self._topic = topic
        self._commands = queue.Queue()
        self._changed = threading.Condition()
        self._read, self._assigned, self._error = [], set(), None
        self.start()

    def run(self):
        try:
            consumer = self._make()
            consumer.subscribe(self._topic)
            while self._one_command(consumer):
                records, assigned = consumer.poll(), consumer.assigned()
                with self._changed:
                    self._read.extend(records)
                    self._assigned = assigned
                    self._changed.notify_all()
            consumer.close()
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _one_command(self, consumer):
        """Carries out at most one command; false once the member is to leave."""
        try:
            command, done = self._commands.get_nowait()
        except queue.Empty:
            return True
        if command == "commit":
            consumer.commit()
            done.set()
        return command != "leave"

    def wait(self, what, condition):
        """Waits until `condition(records, assigned)` holds; returns what it returned."""
        deadline = time.monotonic() + DEADLINE_S
        with self._changed:
            while True:
                if self._error:
                    raise AssertionError(f"{self.name} died waiting for {what}") from self._error
                found = condition(self._read, self._assigned)
                if found:
                    return found
                left = deadline - time.monotonic()
                state = f"{self.name} has {len(self._read)} records and partitions {sorted(self._assigned)}"
                expect(left > 0, f"not within {DEADLINE_S} s: {what}; {state}")
                self._changed.wait(left)

    def read(self):
        """What was read so far: [(partition, offset, record)]."""
        with self._changed:
            return list(self._read)

    def commit(self):
        done = threading.Event()
        self._commands.put(("commit", done))
        self._finish(done.wait, "a commit")

    def leave(self):
        self._commands.put(("leave", None))
        self.join(DEADLINE_S)
        self._finish(lambda _: not self.is_alive(), "leaving")

    def _finish(self, wait, what):
        done = wait(DEADLINE_S)
        if self._error:
            raise AssertionError(f"{self.name} died in {what}") from self._error
        expect(done, f"{self.name}: no answer to {what} within {DEADLINE_S} s")


def publish_values(adapter, topic, partitions, values):
    """One small record per value to each of the partitions."""
    now = int(time.time() * 1000)
    batch = [(partition, sample.Record(None, value, (), now)) for value in values for partition in range(partitions)]
    adapter.publish(topic, batch, "none")


def values_by_partition(read):
    found = {}
    for partition, _, record in read:
        found.setdefault(partition, []).append(record.value)
    return found


def group_of_two(adapter, topic):
    group, everything = f"group-{uuid.uuid4()}", {0, 1, 2, 3}
    first = Member(adapter, group, topic, "the first member")
    first.wait("all partitions alone", lambda _, assigned: assigned == everything)
    second = Member(adapter, group, topic, "the second member")
    theirs = second.wait("a share", lambda _, assigned: len(assigned) == 2 and set(assigned))
    ours = first.wait("the other share", lambda _, assigned: len(assigned) == 2 and set(assigned))
    expect_equal(ours | theirs, everything, "both shares together")

    publish_values(adapter, topic, 4, [b"shared %d" % index for index in range(10)])
    for member, share in ((first, ours), (second, theirs)):
        member.wait("20 records", lambda read, _: len(read) == 20)
        wanted = {partition: [b"shared %d" % index for index in range(10)] for partition in share}
        expect_equal(values_by_partition(member.read()), wanted, f"records of {member.name}")
        member.commit()

    second.leave()
    first.wait("all partitions again", lambda _, assigned: assigned == everything)
    publish_values(adapter, topic, 4, [b"alone"])
    first.wait("24 records", lambda read, _: len(read) >= 24)
    wanted = dict.fromkeys(everything, [b"alone"])
    expect_equal(values_by_partition(first.read()[20:]), wanted, "records after the second left")
    first.leave()


def come_back(adapter, topic):
    group = f"group-{uuid.uuid4()}"
    publish_values(adapter, topic, 3, [b"before %d" % index for index in range(10)])
    member = Member(adapter, group, topic, "the member")
    member.wait("30 records", lambda read, _: len(read) == 30)
    member.commit()
    member.leave()

    publish_values(adapter, topic, 3, [b"while away", b"still away"])
    again = Member(adapter, group, topic, "the returned member")
    again.wait("6 records", lambda read, _: len(read) >= 6)
    again.leave()
    wanted = dict.fromkeys(range(3), [b"while away", b"still away"])
    expect_equal(values_by_partition(again.read()), wanted, "records after coming back")
    expect_equal(min(offset for _, offset, _ in again.read()), 10, "first offset after coming back")


def seek_to_offset(adapter, topic):
    sent = sample.records(30, adapter.can_send)
    adapter.publish(topic, [(0, record) for record in sent], "none")
    for start in (17, 0, 29):
        read = read_from(adapter, topic, {0: start}, 30 - start)[0]
        expect_equal(read[0], (start, sent[start]), f"first record after seeking to {start}")


def seek_to_timestamp(adapter, topic):
    sent = sample.records(30, adapter.can_send)
    adapter.publish(topic, [(0, record) for record in sent[:20]], "gzip")
    adapter.publish(topic, [(0, record) for record in sent[20:]], "none")
    consumer = adapter.consumer()
    try:
        for what, timestamp, wanted in (
            ("before the first record", sent[0].timestamp - 1, 0),
            ("exactly record 12's", sent[12].timestamp, 12),
            ("a little after record 12's", sent[12].timestamp + 1, 13),
            ("exactly record 25's", sent[25].timestamp, 25),
            ("after the last record", sent[29].timestamp + 1, None),
        ):
            found = consumer.offset_for_time(topic, 0, timestamp)
            expect_equal(found, wanted, f"offset for the time {what}")
    finally:
        consumer.close()
    read = read_from(adapter, topic, {0: 12}, 18)[0]
    expect_equal(read[0], (12, sent[12]), "first record after seeking to its time")


def waiting_consumer(adapter, topic):
    """The consumer stands at the end, finds nothing, and then gets each record as it comes."""
    consumer = adapter.consumer()
    try:
        consumer.assign(topic, {0: 0})
        expect_equal(consumer.poll(), [], "records of an empty topic")
        for index in range(5):
            publish_values(adapter, topic, 1, [b"new %d" % index])
            found = until(f"record {index}", consumer.poll)
            expect_equal([record.value for _, _, record in found], [b"new %d" % index], "the new record")
    finally:
        consumer.close()
