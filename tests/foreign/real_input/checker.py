"""Judges what came out of the logs against what producers were told. Pure: made-up histories test it (test_checker.py)."""


def check(sent, acknowledged, logs, exactly_once, in_order=True):
    """Says every anomaly in one sentence; none, if all is well.

    sent:         the records of one producer in send order
    acknowledged: {position in `sent`: (partition, offset)}; an offset of None was acknowledged without being told
    logs:         {partition: [(offset, position in `sent` as the record itself says, record)]} in the order read
    exactly_once: whether a record may be in the log more than once
    in_order:     whether records must be there in send order
    """
    found = []
    for partition, log in sorted(logs.items()):
        found += _offsets(partition, log)
        found += _contents(partition, log, sent)
        if in_order:
            found += _order(partition, log, exactly_once)
    found += _presence(acknowledged, logs)
    if exactly_once:
        found += _duplicates(logs)
    return found


def _offsets(partition, log):
    """Nothing was compacted or aborted: offsets count from 0 without a hole."""
    for wanted, (offset, _, _) in enumerate(log):
        if offset != wanted:
            return [f"partition {partition}: offset {offset} where {wanted} should follow"]
    return []


def _contents(partition, log, sent):
    found = []
    for offset, position, record in log:
        if position is None or not 0 <= position < len(sent):
            found.append(f"partition {partition}, offset {offset}: a record that nobody sent: {record!r:.200}")
        elif record != sent[position]:
            found.append(f"partition {partition}, offset {offset}: record {position} was altered: {record!r:.200} for {sent[position]!r:.200}")
    return found


def _order(partition, log, exactly_once):
    """Send order. A retry may repeat records where that is allowed, but never brings an earlier one for the first time."""
    found, highest = [], -1
    seen = set()
    for offset, position, _ in log:
        if position is None:
            continue
        if position < highest and (exactly_once or position not in seen):
            found.append(f"partition {partition}, offset {offset}: record {position} comes after record {highest}")
        seen.add(position)
        highest = max(highest, position)
    return found


def _presence(acknowledged, logs):
    """Each acknowledged record is at the very place its producer was told."""
    places = {}
    for partition, log in logs.items():
        for offset, position, _ in log:
            places.setdefault(position, set()).add((partition, offset))
    found = []
    for position, (partition, offset) in sorted(acknowledged.items()):
        there = places.get(position, set())
        if not there:
            found.append(f"record {position}, acknowledged at offset {offset} of partition {partition}, is lost")
        elif offset is not None and (partition, offset) not in there:
            found.append(f"record {position}, acknowledged at offset {offset} of partition {partition}, is elsewhere: {sorted(there)}")
    return found


def _duplicates(logs):
    places = {}
    for partition, log in logs.items():
        for offset, position, _ in log:
            places.setdefault(position, []).append((partition, offset))
    return [f"record {position} is there {len(there)} times: {there}" for position, there in places.items() if position is not None and len(there) > 1]


def check_keys(sent, logs):
    """Records of one key share a partition."""
    homes, found = {}, []
    for partition, log in logs.items():
        for _, position, record in log:
            if record.key is not None and homes.setdefault(record.key, partition) != partition:
                found.append(f"record {position}: key {record.key!r} is in partitions {homes[record.key]} and {partition}")
    return found
