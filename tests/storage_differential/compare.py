#!/usr/bin/env python3
"""Compares what one client saw of Kafka and of Klamm: compare.py CLIENT BEGAN_MS KAFKA KLAMM MAY-DIFFER."""

import fnmatch
import itertools
import json
import sys
import time

SHOWN = 20


def rules(path):
    """`case step field how reason…`, a line each."""
    found = []
    for line in open(path, encoding="utf-8"):
        if line.strip() and not line.startswith("#"):
            case, step, field, how, reason = line.split(maxsplit=4)
            if how not in ("clock", "any"):
                raise SystemExit(f"no such way to differ: {how}")
            found.append((case, step, field, how, reason))
    return found


def flat(value, path=""):
    """Every leaf with its path."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from flat(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield f"{path}.len", len(value)
        for index, each in enumerate(value):
            yield from flat(each, f"{path}.{index}")
    else:
        yield path, value


def allowed(given, line, field, values, began, ended, used):
    for case, step, pattern, how, _ in given:
        if all(map(fnmatch.fnmatchcase, (line["case"], line["step"], field), (case, step, pattern))):
            # The broker's clock, not the client's timestamp: both are within the run.
            if how == "any" or all(isinstance(value, int) and began <= value <= ended for value in values):
                used.add((case, step, pattern))
                return True
    return False


def main():
    client, began, kafka, klamm, may_differ = sys.argv[1:]
    given, ended = rules(may_differ), int(time.time() * 1000)
    lines = [[json.loads(line) for line in open(path, encoding="utf-8")] for path in (kafka, klamm)]
    compared, differences, used = 0, [], set()
    for number, (left, right) in enumerate(itertools.zip_longest(*lines)):
        if left is None or right is None or (left["case"], left["step"]) != (right["case"], right["step"]):
            differences.append(f"line {number}: Kafka {json.dumps(left)}, Klamm {json.dumps(right)}; the rest is not compared")
            break
        theirs, ours = dict(flat(left)), dict(flat(right))
        for field in sorted(theirs.keys() | ours.keys()):
            values = theirs.get(field, "absent"), ours.get(field, "absent")
            compared += 1
            if values[0] != values[1] and not allowed(given, left, field, values, int(began), ended, used):
                differences.append(f"{left['case']} {left['step']} (line {number}) {field}: Kafka {values[0]!r}, Klamm {values[1]!r}")
    for difference in differences[:SHOWN]:
        print(f"{client}: {difference}")
    if not lines[0]:
        differences.append("nothing was seen")
    print(f"{client}: {len(lines[0])} lines, {compared} fields compared, {len(used)} kinds allowed to differ, {len(differences)} differences")
    sys.exit(1 if differences else 0)


main()
