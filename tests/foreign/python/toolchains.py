"""What the foreign clients need, and how it gets into the project's own scratch folder: pinned, and only when it changed."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOREIGN = ROOT / "tests/foreign"
SCRATCH = ROOT / "scratch"
# A download takes seconds. One that stalls is given up and begun again.
INSTALL_LIMIT_S = 150
INSTALL_ATTEMPTS = 3


class Missing(Exception):
    """A toolchain is not there and we do not install it."""


def kcat():
    """Debian's package; installed only where we may."""
    if shutil.which("kcat"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing("kcat is not installed (Debian: apt-get install kcat)")
    _run("apt-get", "update", "-q")
    _run("apt-get", "install", "-q", "-y", "--no-install-recommends", "kcat")


def python():
    """A virtual environment with the packages of requirements.txt."""
    requirements = FOREIGN / "python/requirements.txt"
    with _Installed("python", requirements, sys.version_info[:2]) as place:
        if place is None:
            return
        try:
            _run(sys.executable, "-m", "venv", "--clear", str(place))
        except subprocess.CalledProcessError as error:
            raise Missing("Python cannot make virtual environments (Debian: apt-get install python3-venv)") from error
        _run(str(place / "bin/pip"), "install", "-q", "--disable-pip-version-check", "--no-deps", "-r", str(requirements))


def node():
    """kafkajs and its codecs, as package-lock.json has them."""
    _need("node", "npm")
    folder = FOREIGN / "kafkajs"
    with _Installed("kafkajs", folder / "package-lock.json") as place:
        if place is None:
            return
        place.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(folder / name, place)
        _run("npm", "ci", "--silent", cwd=place)


def java():
    """The jars of the Java client and of Kafka's tools, as the pom has them. javac: one suite runs from source."""
    _need("java", "javac", "mvn")
    pom = FOREIGN / "java/pom.xml"
    with _Installed("java", pom) as place:
        if place is None:
            return
        shutil.rmtree(place, ignore_errors=True)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={place / 'libs'}"]
        _run("mvn", "-q", "-B", "-f", str(pom), *goal)


def zookeeper():
    """The jars of the ZooKeeper servers, where tests/ensemble/run puts them too, as its pom has them."""
    _need("java", "mvn")
    pom, place = ROOT / "tests/ensemble/pom.xml", SCRATCH / "zookeeper"
    stamp = place / "pom.xml"
    if stamp.exists() and stamp.read_bytes() == pom.read_bytes():
        return
    shutil.rmtree(place, ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={place / 'libs'}"]
    _run("mvn", "-q", "-B", "-f", str(pom), *goal)
    shutil.copy(pom, stamp)


def go():
    """The franz-go program, built as go.sum has it."""
    _need("go")
    (SCRATCH / "go").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
    _run("go", "build", "-o", str(SCRATCH / "go/franz-go"), ".", cwd=FOREIGN / "franz-go", env=environment)


def _need(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise Missing(f"{' and '.join(missing)} not found")


class _Installed:
    """Gives the scratch folder to fill, or None if what is in it came from the very same file."""

    def __init__(self, name, source, *more):
        self._place = SCRATCH / name
        self._stamp = self._place / ".installed-from"
        self._wanted = hashlib.sha256(source.read_bytes() + repr(more).encode()).hexdigest()

    def __enter__(self):
        current = self._stamp.read_text() if self._stamp.exists() else None
        return None if current == self._wanted else self._place

    def __exit__(self, kind, *_):
        if kind is None:
            self._stamp.write_text(self._wanted)


def _run(*command, **options):
    """Runs an installer, again if a download stalls or fails; what it says is shown only if it fails for good."""
    for attempt in range(1, INSTALL_ATTEMPTS + 1):
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=INSTALL_LIMIT_S, **options
            )
        except subprocess.TimeoutExpired as expired:
            code, said = 124, (expired.stdout or b"").decode(errors="replace")
        else:
            code, said = done.returncode, done.stdout
        if code == 0:
            return
        took = f"after more than {INSTALL_LIMIT_S} s" if code == 124 else f"with code {code}"
        print(f"{' '.join(command)}: attempt {attempt} ended {took}:\n{said}", file=sys.stderr, flush=True)
    raise subprocess.CalledProcessError(code, command)
