"""Starts, kills and restarts a broker as a process: `klamm serve`, or any command given in its place."""

import os
import pathlib
import re
import shlex
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = pathlib.Path(os.environ.get("KLAMM_BINARY", TARGET / "release/klamm"))
READY_S = 60

# What foreign suites assume, all of it ordinary Kafka configuration.
SETTINGS = {
    "node.id": "0",
    "auto.create.topics.enable": "true",
    "num.partitions": "3",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}


def build():
    """Builds the binary that `Broker` starts, unless KLAMM_BINARY names one."""
    if "KLAMM_BINARY" not in os.environ:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--package", "klamm"], cwd=ROOT, check=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """One broker on 127.0.0.1 with a data directory of its own, which outlives kills and restarts.

    `command`, where given, takes the place of `klamm serve`: it is called with the directory, the port and
    settings as key=value, stays in the foreground, and counts as ready when it accepts connections.
    """

    def __init__(self, command=None, port=0, settings=None):
        self._command = command
        self._settings = SETTINGS | (settings or {})
        self._directory = tempfile.TemporaryDirectory(prefix="klamm-foreign-", ignore_cleanup_errors=True)
        self._log_path = pathlib.Path(self._directory.name) / "broker.log"
        self.data_dir = pathlib.Path(self._directory.name) / "data"
        self._port = port or (free_port() if command else 0)
        self._process = None

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        """Starts, or restarts on the same directory and port; returns when connections are accepted."""
        log = self._log_path.open("ab")
        self._process = subprocess.Popen(
            self._arguments(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        if self._command:
            threading.Thread(target=self._drain, daemon=True).start()
            self._await_connection()
        else:
            self._await_ready_line()
        return self

    def _arguments(self):
        pairs = [f"{key}={value}" for key, value in self._settings.items()]
        if self._command:
            return [*shlex.split(self._command), str(self.data_dir), str(self._port), *pairs]
        settings = [word for pair in pairs for word in ("--set", pair)]
        where = ["--data-dir", str(self.data_dir), "--listen", self.bootstrap]
        return [str(BINARY), "serve", *where, *settings]

    def _await_ready_line(self):
        alarm = threading.Timer(READY_S, self._process.kill)
        alarm.start()
        line = self._process.stdout.readline()
        alarm.cancel()
        ready = re.search(r"ready on \S+:(\d+)\s*$", line)
        if not ready:
            raise RuntimeError(f"the broker did not get ready, its first line was {line!r}\n{self.log_tail()}")
        self._port = int(ready[1])
        threading.Thread(target=self._drain, daemon=True).start()

    def _await_connection(self):
        deadline = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the broker did not get ready\n{self.log_tail()}")

    def _drain(self):
        """Keeps what the broker prints after its ready line, so that its pipe never fills."""
        with self._log_path.open("a") as log:
            for line in self._process.stdout:
                log.write(line)

    def strike(self):
        """Nothing: a broker that is alone has no ensemble whose leader could be killed (cluster.py)."""

    def alive(self):
        return self._process is not None and self._process.poll() is None

    def kill(self):
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def stop(self):
        """Asks it to stop; kills it when it does not. Returns how it ended: an exit code, or None if it was killed."""
        if not self.alive():
            return self._process.returncode if self._process else None
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def log_tail(self, lines=60):
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-lines:])

    def keep_log(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._log_path.read_bytes())

    def remove(self):
        """Stops the broker and removes its directory."""
        self.stop()
        self._directory.cleanup()
