#!/usr/bin/env python3
"""Runs the integration tests inside a published crate against a broker, or a cluster: suite.py rdkafka|rskafka

The crate is copied out of cargo's registry into scratch, built there, and every test runs as a process of its own.
What fails must be in expected-failures.txt, and what is in there must fail, unless it says that it varies. That list is Klamm's: with another
broker in its place (KLAMM_BROKER_COMMAND) everything must pass. Of a cluster (KLAMM_CLUSTER=1) the ensemble's leader is
killed when a third of the tests are through.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import cluster  # noqa: E402
from broker import ROOT  # noqa: E402

SCRATCH = ROOT / "scratch/crates"
TEST_LIMIT_S = 120


@dataclasses.dataclass(frozen=True)
class Crate:
    """How one crate wants to be tested. `lock` replaces its own, where that is too old for our compiler."""

    name: str
    port: int = 0
    at_once: int = 1
    lock: str | None = None
    settings: dict = dataclasses.field(default_factory=dict)
    environment: dict = dataclasses.field(default_factory=dict)
    address_variable: str = ""


CRATES = {
    "rdkafka": Crate(
        "rdkafka", port=9092, environment={"KAFKA_VERSION": "4.0"}, address_variable="KAFKA_HOST"
    ),
    "rskafka": Crate(
        "rskafka", at_once=4, lock="rskafka.lock", settings={"auto.create.topics.enable": "false"},
        environment={"TEST_INTEGRATION": "1", "TEST_BROKER_IMPL": "kafka"}, address_variable="KAFKA_CONNECT",
    ),
}


def copy_from_registry(crate):
    """The crate's sources in scratch, made a workspace of their own; copied anew when a version changes."""
    metadata = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", _host()],
        cwd=HERE, check=True, stdout=subprocess.PIPE,
    ).stdout
    [package] = [each for each in json.loads(metadata)["packages"] if each["name"] == crate.name]
    source, place = pathlib.Path(package["manifest_path"]).parent, SCRATCH / crate.name
    stamp, wanted = place / ".copied-from", f"{package['version']} {crate.lock and (HERE / crate.lock).read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return place
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
    (place / "rust-toolchain.toml").unlink(missing_ok=True)
    with (place / "Cargo.toml").open("a") as manifest:
        manifest.write("\n[workspace]\n")
    if crate.lock:
        shutil.copy(HERE / crate.lock, place / "Cargo.lock")
    stamp.write_text(wanted)
    return place


def _host():
    version = subprocess.run(["rustc", "-vV"], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True).stdout
    [host] = [line.removeprefix("host: ") for line in version.splitlines() if line.startswith("host: ")]
    return host


def build(place):
    """Builds the integration tests of the crate; returns [(name of the target, executable)]."""
    done = subprocess.run(
        ["cargo", "test", "--locked", "--test", "*", "--no-run", "--message-format=json-render-diagnostics"],
        cwd=place, check=True, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"CARGO_TARGET_DIR": str(SCRATCH / "target"), "CARGO_PROFILE_DEV_DEBUG": "0"},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [(each["target"]["name"], each["executable"]) for each in found if each.get("executable")]


def tests_of(executable, place):
    listed = subprocess.run([executable, "--list", "--format", "terse"], cwd=place, check=True, stdout=subprocess.PIPE, text=True)
    return [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]


def run_test(executable, test, place, environment):
    """One test in a process of its own: (why it failed or None, seconds)."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            [executable, "--exact", test],
            cwd=place, env=os.environ | environment, timeout=TEST_LIMIT_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        output, why = done.stdout, None if done.returncode == 0 else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired as late:
        output, why = (late.stdout or b"").decode(errors="replace"), f"no end within {TEST_LIMIT_S} s"
    if why:
        print(f"--- {test}\n{output}", file=sys.stderr, flush=True)
        panics = [line for line in output.splitlines() if "panicked at" in line]
        why = " ".join([why, *panics[:1]])
    return why, time.monotonic() - started


def expected_failures(crate):
    """{test: (fails or varies, reason)} of the crate; a line is: CRATE TEST fails|varies|one-broker REASON.

    What is for one broker only fails with more, and only then.
    """
    if os.environ.get("KLAMM_BROKER_COMMAND"):
        return {}
    found = {}
    for line in (HERE / "expected-failures.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, test, how, reason = line.split(maxsplit=3)
            if how not in ("fails", "varies", "one-broker"):
                raise ValueError(f"expected-failures.txt: neither fails nor varies nor one-broker: {line}")
            if how == "one-broker":
                if os.environ.get("KLAMM_CLUSTER") != "1":
                    continue
                how = "fails"
            if name == crate.name:
                found[test] = (how, reason)
    return found


def verdict(test, why, expected):
    """The case's line: what fails must be expected to, and what is expected to must fail."""
    how, reason = expected.get(test, (None, None))
    if why and how:
        return "ok", f"{test} (fails as expected: {reason})", ()
    if why:
        return "FAILED", test, (why,)
    if how == "fails":
        return "FAILED", test, ("it passes: take it out of expected-failures.txt",)
    return "ok", test, ()


def run_all(crate, place, executables, address, strike):
    """All tests; true if one failed. `strike` is called when a third of them are through."""
    environment = crate.environment | {crate.address_variable: address, "RUST_BACKTRACE": "0"}
    expected = expected_failures(crate)
    tests = [(f"{target}::{test}", executable, test) for target, executable in executables for test in tests_of(executable, place)]
    gone = set(expected) - {name for name, _, _ in tests}
    failed, struck = False, None
    for name in gone:
        print("FAILED", name, 0, "it is in expected-failures.txt, but there is no such test", sep="\t", flush=True)
        failed = True
    with concurrent.futures.ThreadPoolExecutor(crate.at_once) as pool:
        running = [(name, pool.submit(run_test, *rest, place, environment), rest) for name, *rest in tests]
        for number, (name, answer, rest) in enumerate(running):
            if number == len(running) // 3:
                struck = strike()
            why, seconds = answer.result()
            again = bool(why) and name not in expected
            if again:  # Some of these tests assert what a loaded machine does within so many milliseconds.
                why, seconds = run_test(*rest, place, environment)
            word, what, more = verdict(name, why, expected)
            what += " (at its second try)" if again and not why else ""
            failed |= word == "FAILED"
            print(word, what, f"{seconds:.2f}", *more, sep="\t", flush=True)
    if struck:
        print(f"the ensemble's leader killed in the middle: {struck.told()}", flush=True)
    return failed


def port_is_taken(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def main():
    crate = CRATES[sys.argv[1]]
    started = time.monotonic()
    place = copy_from_registry(crate)
    executables = build(place)
    print("ok", f"copied from the registry and built, {len(executables)} test programs", f"{time.monotonic() - started:.2f}", sep="\t", flush=True)
    if crate.port and port_is_taken(crate.port):
        print("FAILED", "start a broker", 0, f"{crate.name}'s tests want port {crate.port}, which something else has", sep="\t")
        return 1
    broker = cluster.make(os.environ.get("KLAMM_BROKER_COMMAND"), crate.port, crate.settings)
    try:
        broker.start()
        failed = run_all(crate, place, executables, broker.bootstrap, broker.strike)
        if failed or not broker.alive():
            print(f"--- the broker's log\n{broker.log_tail()}", file=sys.stderr)
        if not broker.alive():
            print("FAILED", "the broker is alive", 0, "it died", sep="\t")
            failed = True
        return 1 if failed else 0
    finally:
        broker.remove()


if __name__ == "__main__":
    sys.exit(main())
