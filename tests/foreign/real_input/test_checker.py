"""Made-up histories: every anomaly is flagged, and a good history is not."""

import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))

from cases import expect, expect_equal
from checker import check, check_keys
from sample import Record

SENT = [Record(b"key %d" % (index % 2), b"value %d" % index, (("n", b"%d" % index),), index) for index in range(6)]
# Two partitions, even and odd records.
ACKNOWLEDGED = {index: (index % 2, index // 2) for index in range(6)}


def good():
    return {part: [(offset, part + 2 * offset, SENT[part + 2 * offset]) for offset in range(3)] for part in range(2)}


def flagged(what, logs, word, exactly_once=True, acknowledged=None):
    found = check(SENT, ACKNOWLEDGED if acknowledged is None else acknowledged, logs, exactly_once)
    expect(any(word in each for each in found), f"{what} is not flagged; found {found}")


def renumbered(positions):
    return [(offset, position, SENT[position]) for offset, position in enumerate(positions)]


def all_cases():
    expect_equal(check(SENT, ACKNOWLEDGED, good(), True), [], "a good history")
    expect_equal(check_keys(SENT, good()), [], "a good history's keys")

    logs = good()
    logs[0].pop()
    flagged("a lost record at the end", logs, "is lost")
    flagged("a lost record in the middle", good() | {0: renumbered([0, 4])}, "is lost")
    expect_equal(check(SENT, {}, logs, True), [], "a record missing that was not acknowledged")

    logs = good() | {0: renumbered([0, 2, 2, 4])}
    unknown = {position: (partition, None) for position, (partition, _) in ACKNOWLEDGED.items()}
    flagged("a duplicate of an idempotent producer", logs, "2 times", acknowledged=unknown)
    flagged("a duplicate in another partition", good() | {0: renumbered([0, 1, 2, 4])}, "2 times", acknowledged=unknown)
    repeated = good() | {0: renumbered([0, 2, 0, 2, 4])}
    expect_equal(check(SENT, unknown, repeated, False), [], "a retried batch of a producer that is not idempotent")
    flagged("a retried batch of an idempotent producer", repeated, "comes after", acknowledged=unknown)

    flagged("reordered records", good() | {0: renumbered([2, 0, 4])}, "comes after")
    flagged("reordered records, duplicates allowed", good() | {0: renumbered([2, 0, 4])}, "comes after", exactly_once=False, acknowledged=unknown)
    swapped = good() | {0: renumbered([2, 0, 4])}
    expect_equal(check(SENT, unknown, swapped, False, in_order=False), [], "reordered records where nobody promised an order")
    flagged("a record at another offset than acknowledged", good() | {0: renumbered([0, 4])}, "elsewhere")

    for field, other in (("key", b"other"), ("key", None), ("value", b""), ("headers", ()), ("timestamp", 7)):
        logs = good()
        changed = Record(**{"key": SENT[0].key, "value": SENT[0].value, "headers": SENT[0].headers, "timestamp": 0} | {field: other})
        logs[0][0] = (0, 0, changed)
        flagged(f"an altered {field}", logs, "was altered")

    logs = good()
    logs[1].append((3, None, SENT[0]))
    flagged("a record that nobody sent", logs, "nobody sent")
    logs = good()
    logs[1][2] = (5, 5, SENT[5])
    flagged("a hole in the offsets", logs, "should follow")
    logs = good()
    logs[1].append((3, 4, SENT[4]))
    expect(check_keys(SENT, logs), "a key in two partitions is not flagged")


if __name__ == "__main__":
    all_cases()
    print("the checker's self-tests passed")
