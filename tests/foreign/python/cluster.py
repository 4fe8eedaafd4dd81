"""Three brokers on an ensemble of three ZooKeeper servers, processes on loopback, in the place of one broker.

A strike kills the ensemble's leader while clients are at work, waits until another server leads, and starts the killed
one again.
"""

import concurrent.futures
import os
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import threading
import time

from broker import Broker
from toolchains import SCRATCH

ENSEMBLE = pathlib.Path(__file__).resolve().parents[2] / "ensemble"
SERVERS = 3
BROKERS = 3
READY_S = 60
TICK_MS = 500
# Below those that the system gives to whoever connects: a server that was killed finds its own again.
PORTS = range(20_000, 32_000)
# Cluster settings in the place of one broker's; the session is that of scripts/cluster-demo.
SETTINGS = {
    "zookeeper.session.timeout.ms": "6000",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
}


def make(command=None, port=0, settings=None):
    """What a suite with brokers of its own runs against: a cluster where KLAMM_CLUSTER=1, otherwise one broker."""
    if os.environ.get("KLAMM_CLUSTER") == "1":
        return Cluster(port, settings)
    return Broker(command, port, settings)


class Server:
    """One ZooKeeper server; its data outlives it."""

    def __init__(self, home, number, ports):
        self.number = number
        self.client, self.quorum, self.election = ports
        self._home = home / str(number)
        self._process = None

    def line(self):
        return f"server.{self.number}=127.0.0.1:{self.quorum}:{self.election}"

    def configure(self, servers):
        self._home.mkdir(parents=True)
        (self._home / "myid").write_text(str(self.number))
        lines = [
            f"dataDir={self._home}", f"clientPort={self.client}", "clientPortAddress=127.0.0.1", f"tickTime={TICK_MS}",
            "initLimit=20", "syncLimit=20", "maxClientCnxns=0", "admin.enableServer=false", "4lw.commands.whitelist=srvr",
            *(each.line() for each in servers),
        ]
        (self._home / "zoo.cfg").write_text("\n".join(lines) + "\n")

    def start(self):
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                 f"-Dlogback.configurationFile={ENSEMBLE / 'logback.xml'}",
                 # A scratch directory: nothing in it has to survive a power loss. And a server that missed a vote is told
                 # again within a second: ZooKeeper doubles that pause up to a minute, seen where two leaders are
                 # killed within seconds.
                 "-Dzookeeper.forceSync=no", "-Dzookeeper.fastleader.maxNotificationInterval=1000", "-cp", f"{SCRATCH / 'zookeeper/libs'}/*",
                 "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self._home / "zoo.cfg")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )

    def kill(self):
        if self._process:
            self._process.kill()
            self._process.wait()

    def mode(self):
        """leader, follower, or None for a server that serves nobody."""
        try:
            with socket.create_connection(("127.0.0.1", self.client), timeout=2) as asked:
                asked.sendall(b"srvr")
                answer = b"".join(iter(lambda: asked.recv(4096), b""))
        except OSError:
            return None
        found = re.search(rb"^Mode: (\w+)", answer, re.MULTILINE)
        return found[1].decode() if found else None

    def log_tail(self, lines=20):
        return "\n".join((self._home / "server.log").read_text(errors="replace").splitlines()[-lines:])


def free_ports():
    """Different ones that nobody listens on, in an order of chance."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


class Ensemble:
    """The servers, and a strike at the one that leads."""

    def __init__(self, home):
        ports = free_ports()
        self._servers = [Server(home, number, [next(ports) for _ in range(3)]) for number in range(1, SERVERS + 1)]
        self._striking = threading.Lock()

    @property
    def addresses(self):
        return ",".join(f"127.0.0.1:{each.client}" for each in self._servers)

    def start(self):
        for each in self._servers:
            each.configure(self._servers)
            each.start()
        for each in self._servers:
            self._await(f"ZooKeeper server {each.number} serves", each.mode)

    def strike(self, on_kill):
        """Kills the leader and starts it again; says who led, when it was killed, and when another one led.

        `on_kill` is told the time of the kill.
        """
        with self._striking:
            for each in self._servers:
                self._await(f"ZooKeeper server {each.number} serves", each.mode)
            leader = self._await("a leader", lambda: self._in_mode("leader"))
            others = [each for each in self._servers if each is not leader]
            leader.kill()
            killed, at = time.monotonic(), time.strftime("%H:%M:%S")
            on_kill(killed)
            successor = self._await("another leader", lambda: self._in_mode("leader", others))
            led = time.monotonic() - killed
            leader.start()
            self._await(f"ZooKeeper server {leader.number} serves again", leader.mode)
            back = time.monotonic() - killed
        return (
            f"server {leader.number} led and was killed at {at}, server {successor.number} led {led:.2f} s later, "
            f"server {leader.number} was back after {back:.2f} s"
        )

    def _in_mode(self, mode, among=None):
        return next((each for each in among or self._servers if each.mode() == mode), None)

    def _await(self, what, look):
        deadline = time.monotonic() + READY_S
        while not (found := look()):
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- server {each.number}\n{each.log_tail()}" for each in self._servers)
                raise RuntimeError(f"not within {READY_S} s: {what}\n{logs}")
            time.sleep(0.02)
        return found

    def kill(self):
        for each in self._servers:
            each.kill()


class Strike(threading.Thread):
    """A strike that is on its way. `killed_at` is the moment of the kill (time.monotonic), None before."""

    def __init__(self, ensemble):
        super().__init__(daemon=True)
        self.killed_at = None
        self._ensemble, self._said, self._error = ensemble, None, None
        self.start()

    def run(self):
        try:
            self._said = self._ensemble.strike(self._killed)
        except Exception as error:  # noqa: BLE001 - told to whoever asks how it went
            self._error = error

    def _killed(self, at):
        self.killed_at = at

    def told(self):
        """Waits for its end: what happened, in one sentence. A strike that did not happen is an error."""
        self.join()
        if self._error:
            raise self._error
        return self._said


class Cluster:
    """Stands where a `Broker` does: the same calls, three brokers behind them. They are 0, 1 and 2.

    A kill takes one broker after the other; the rest goes on.
    """

    def __init__(self, port=0, settings=None):
        self._directory = tempfile.TemporaryDirectory(prefix="klamm-foreign-", ignore_cleanup_errors=True)
        self._ensemble = Ensemble(pathlib.Path(self._directory.name))
        own = SETTINGS | (settings or {}) | {"zookeeper.connect": f"{self._ensemble.addresses}/klamm"}
        self._members = [
            Broker(port=port if number == 0 else 0, settings=own | {"node.id": str(number)}) for number in range(BROKERS)
        ]
        self._started = False
        self._victim = BROKERS - 1

    @property
    def bootstrap(self):
        return ",".join(each.bootstrap for each in self._members)

    @property
    def data_dir(self):
        """One broker's: with three replicas it has every partition."""
        return self._members[0].data_dir

    def start(self):
        """Starts everything, and later the brokers that were killed; returns when all accept connections."""
        if not self._started:
            self._started = True
            self._ensemble.start()
        down = [each for each in self._members if not each.alive()]
        with concurrent.futures.ThreadPoolExecutor(len(down)) as pool:
            for each in [pool.submit(member.start) for member in down]:
                each.result()
        return self

    def strike(self):
        """Kills the leader of the ensemble, in the background."""
        return Strike(self._ensemble)

    def alive(self):
        return all(each.alive() for each in self._members)

    def kill(self):
        """kill -9 of the next broker in turn."""
        self._victim = (self._victim + 1) % BROKERS
        self._members[self._victim].kill()

    def stop(self):
        """Asks all to stop, the ensemble last. Returns 0, or how the first that did not stop in order ended."""
        with concurrent.futures.ThreadPoolExecutor(BROKERS) as pool:
            codes = list(pool.map(Broker.stop, self._members))
        self._ensemble.kill()
        return next((code for code in codes if code != 0), 0)

    def log_tail(self, lines=60):
        return "\n".join(f"--- broker {number}\n{each.log_tail(lines)}" for number, each in enumerate(self._members))

    def keep_log(self, path):
        for number, each in enumerate(self._members):
            each.keep_log(path.with_stem(f"{path.stem}-{number}"))

    def remove(self):
        """Stops everything and removes its directories."""
        self.stop()
        for each in self._members:
            each.remove()
        self._directory.cleanup()
