"""Installs what the foreign suites need, starts one broker or a cluster, runs the suites against it and counts.

With CI=true a suite that had to be left out is a failure.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time

import toolchains
from broker import Broker, build
from cluster import BROKERS, Cluster
from toolchains import FOREIGN, SCRATCH

LOGS = SCRATCH / "foreign-logs"
PYTHON = str(SCRATCH / "python/bin/python")


@dataclasses.dataclass(frozen=True)
class Suite:
    """`shared` suites run against the one broker, two at a time; the others alone, with brokers of their own.

    Those that are not `usual` run only when named: real_input/run and crates/run do so.
    """

    name: str
    needs: object
    command: tuple
    shared: bool = True
    usual: bool = True
    limit_s: int = 600


# How many cases of a suite have ended when the leader of the ensemble is killed: while the third is running, one of the
# codecs as a rule, and the seventh, a group.
STRIKE_AFTER = (2, 6)

SUITES = (
    Suite("java", toolchains.java, (FOREIGN / "java/suite",)),
    Suite("kcat", toolchains.kcat, (FOREIGN / "kcat/suite",)),
    Suite("confluent", toolchains.python, (PYTHON, FOREIGN / "confluent/suite.py")),
    Suite("kafka-python", toolchains.python, (PYTHON, FOREIGN / "kafka-python/suite.py")),
    Suite("aiokafka", toolchains.python, (PYTHON, FOREIGN / "aiokafka/suite.py")),
    Suite("kafkajs", toolchains.node, ("node", FOREIGN / "kafkajs/suite.js")),
    Suite("franz-go", toolchains.go, (SCRATCH / "go/franz-go",)),
    Suite("latency", toolchains.python, (PYTHON, FOREIGN / "latency/suite.py"), shared=False),
    Suite("real-input", toolchains.python, (PYTHON, FOREIGN / "real_input/suite.py"), shared=False, usual=False, limit_s=900),
    Suite("rdkafka", None, (sys.executable, FOREIGN / "crates/suite.py", "rdkafka"), shared=False, usual=False, limit_s=1500),
    Suite("rskafka", None, (sys.executable, FOREIGN / "crates/suite.py", "rskafka"), shared=False, usual=False, limit_s=1500),
)


class Tally:
    """Prints every case as it ends and keeps count."""

    def __init__(self):
        self.passed, self.failures, self.left_out = 0, [], []
        self._lock = threading.Lock()

    def case(self, suite, line):
        """One line of a suite; see cases.py."""
        verdict, name, seconds, *why = line.split("\t")
        with self._lock:
            print(f"{verdict:6} {suite:12} {float(seconds):7.2f} s  {name}{''.join(': ' + each for each in why)}", flush=True)
            if verdict == "ok":
                self.passed += 1
            else:
                self.failures.append(f"{suite}: {name}{''.join(': ' + each[:300] for each in why)}")

    def failed(self, suite, what, log=""):
        """A failure that no case reported."""
        self.case(suite, f"FAILED\t{what}\t0")
        if log:
            with self._lock:
                print("\n".join(f"       | {line}" for line in log.splitlines()), flush=True)

    def leave_out(self, suite, why):
        self.left_out.append(suite)
        print(f"left out: {suite}: {why}", flush=True)

    def close(self):
        """Prints the closing lines; returns the exit code."""
        for each in self.failures:
            print(f"failed: {each}")
        if self.left_out:
            print(f"left out: {', '.join(self.left_out)}")
        skipped = f", {len(self.left_out)} skipped" if self.left_out else ""
        print(f"{self.passed} passed, {len(self.failures)} failed{skipped}")
        return 1 if self.failures or (self.left_out and os.environ.get("CI") == "true") else 0


def named(usual):
    return ", ".join(each.name for each in SUITES if each.usual == usual)


def arguments():
    parser = argparse.ArgumentParser(prog="tests/foreign/run", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"by default {named(True)}; also {named(False)}")
    parser.add_argument("--cluster", action="store_true", help="three brokers and three ZooKeeper servers, whose leader is killed in the middle of each suite")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a broker that runs already; suites with brokers of their own are left out")
    parser.add_argument("--data-dir", metavar="DIR", help="where that broker keeps its logs, for kafka-dump-log")
    parser.add_argument("--broker-command", metavar="COMMAND", help="instead of klamm serve: called with DIR PORT KEY=VALUE…")
    chosen = parser.parse_args()
    known = {each.name: each for each in SUITES}
    if chosen.cluster and (chosen.bootstrap or chosen.broker_command):
        parser.error("--cluster starts brokers of its own, and Klamm's only")
    unknown = [name for name in chosen.suites if name not in known]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    suites = [known[name] for name in chosen.suites] or [each for each in SUITES if each.usual]
    return chosen, suites


def install(suites, cluster, tally):
    """Installs what the suites need, at the same time; returns the suites that can run."""
    needs_of = lambda suite: [each for each in (suite.needs, cluster and toolchains.zookeeper) if each]  # noqa: E731
    needs = {need for each in suites for need in needs_of(each)}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = {need: pool.submit(need) for need in needs}
    runnable = []
    for suite in suites:
        try:
            for need in needs_of(suite):
                waiting[need].result()
            runnable.append(suite)
        except toolchains.Missing as missing:
            tally.leave_out(suite.name, missing)
        except (subprocess.CalledProcessError, OSError) as error:
            tally.failed(suite.name, f"installing what it needs: {error}")
    return runnable


def run(suite, environment, tally, cluster=None):
    """Runs one suite and passes its cases on. What it says on standard error is kept, and shown if it fails.

    The leader of the cluster's ensemble, where one is given, is killed in the middle of it.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log_path = LOGS / f"{suite.name}.log"
    started, cases, failures = time.monotonic(), 0, len(tally.failures)
    strikes, case_ends = [], []
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in suite.command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environment,
        )
        alarm = threading.Timer(suite.limit_s, process.kill)
        alarm.start()
        for line in process.stdout:
            if line.startswith(("ok\t", "FAILED\t")):
                tally.case(suite.name, line.rstrip("\n"))
                cases += 1
                case_ends.append(time.monotonic())
                if cluster and cases in STRIKE_AFTER:
                    strikes.append(cluster.strike())
            else:
                print(f"       {suite.name:12} {line}", end="", flush=True)
        code = process.wait()
        alarm.cancel()
    if cluster:
        tell_strikes(suite.name, strikes, case_ends, tally)
    own_failures = [each for each in tally.failures[failures:] if each.startswith(f"{suite.name}: ")]
    if cases == 0 or (code != 0 and not own_failures):
        tally.failed(suite.name, f"the suite ended with code {code} after {cases} cases and {time.monotonic() - started:.0f} s")
        own_failures.append(suite.name)
    if own_failures:
        print(f"       {suite.name}: what it said, in full in {log_path}:\n{_tail(log_path)}", flush=True)
    print(f"       {suite.name:12} {time.monotonic() - started:7.2f} s in all", flush=True)


def tell_strikes(suite, strikes, case_ends, tally):
    """A case for each time that the leader of the ensemble was to be killed: it happened, and cases ended after it."""
    if not strikes:
        tally.failed(suite, "the ensemble's leader was to be killed in the middle, which never came")
    for strike in strikes:
        try:
            told = strike.told()
        except RuntimeError as error:
            tally.failed(suite, "the ensemble's leader is killed in the middle, and another leads", str(error))
            continue
        after = sum(end > strike.killed_at for end in case_ends)
        what = f"the ensemble's leader killed in the middle: {told}"
        if after:
            tally.case(suite, f"ok\t{what}; {after} cases ended after that\t0")
        else:
            tally.failed(suite, f"{what}; but the last case had ended before that")


def _tail(path, lines=30):
    return "\n".join(f"       | {line[:300]}" for line in path.read_text(errors="replace").splitlines()[-lines:])


def run_shared(suites, chosen, tally):
    """All against one running broker, two suites at a time."""
    environment = {"NODE_PATH": str(SCRATCH / "kafkajs/node_modules"), "KLAMM_JAVA_LIBS": str(SCRATCH / "java/libs")}
    if chosen.bootstrap:
        environment |= {"KLAMM_BOOTSTRAP": chosen.bootstrap} | ({"KLAMM_DATA_DIR": chosen.data_dir} if chosen.data_dir else {})
        run_two_at_a_time(suites, environment, tally)
        return
    broker = Cluster() if chosen.cluster else Broker(chosen.broker_command)
    try:
        broker.start()
        environment |= {"KLAMM_BOOTSTRAP": broker.bootstrap, "KLAMM_DATA_DIR": str(broker.data_dir)}
        failures = len(tally.failures)
        if chosen.cluster:
            environment |= {"KLAMM_REPLICATION_FACTOR": str(BROKERS)}
        run_two_at_a_time(suites, environment, tally, broker if chosen.cluster else None)
        judge(broker, chosen, tally, len(tally.failures) > failures)
    finally:
        broker.remove()


def run_two_at_a_time(suites, environment, tally, cluster=None):
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for each in [pool.submit(run, suite, environment, tally, cluster) for suite in suites]:
            each.result()


def judge(broker, chosen, tally, failed):
    """How the broker itself came through: alive, without a panic, and it ends when asked."""
    problems = [] if broker.alive() else ["the broker died"]
    started = time.monotonic()
    code = broker.stop()
    if not problems and code != 0 and not chosen.broker_command:
        problems.append(f"the broker did not stop cleanly when asked: exit code {code}")
    if "panicked at" in broker.log_tail(1_000_000):
        problems.append("the broker's log has a panic")
    if problems or failed:
        broker.keep_log(LOGS / "broker.log")
    for problem in problems:
        tally.failed("broker", problem, broker.log_tail())
    if not problems:
        tally.case("broker", f"ok\tup to the end, no panic, stops when asked\t{time.monotonic() - started:.2f}")
    if failed and not problems:
        print(f"       the broker's log, in full in {LOGS / 'broker.log'}:\n{broker.log_tail(30)}", flush=True)


def main():
    chosen, suites = arguments()
    tally = Tally()
    started = time.monotonic()
    suites = install(suites, chosen.cluster, tally)
    if not chosen.bootstrap and not chosen.broker_command:
        build()
    shared = [each for each in suites if each.shared]
    if shared:
        run_shared(shared, chosen, tally)
    for suite in (each for each in suites if not each.shared):
        if chosen.bootstrap:
            tally.leave_out(suite.name, "it starts brokers of its own")
        else:
            own = {"KLAMM_CLUSTER": "1", "KLAMM_REPLICATION_FACTOR": str(BROKERS)} if chosen.cluster else {}
            run(suite, {"KLAMM_BROKER_COMMAND": chosen.broker_command or ""} | own, tally)
    print(f"       {time.monotonic() - started:.0f} s in all")
    sys.exit(tally.close())


if __name__ == "__main__":
    main()
