"""How a suite tells its runner what it did: one tab-separated line a case on standard output.

    ok <TAB> name <TAB> seconds
    FAILED <TAB> name <TAB> seconds <TAB> why

Every suite, whatever its language, writes these lines and exits with 1 if a case failed.
"""

import os
import sys
import time
import traceback


class Cases:
    """Runs cases one after the other and keeps count."""

    def __init__(self):
        self.failed = 0

    def run(self, name, body, *arguments):
        """Runs one case; a failure is reported and the next case still runs."""
        started = time.monotonic()
        try:
            body(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a client throws is a failed case
            self.failed += 1
            traceback.print_exc()
            why = " ".join(f"{type(error).__name__}: {error}".split())
            self._line("FAILED", name, started, why)
        else:
            self._line("ok", name, started)

    def exit(self):
        """Ends the suite. Client threads that are still about do not hold it up."""
        sys.stdout.flush()
        os._exit(1 if self.failed else 0)

    @staticmethod
    def _line(verdict, name, started, *why):
        seconds = f"{time.monotonic() - started:.2f}"
        print(verdict, name, seconds, *why, sep="\t", flush=True)


def expect(truth, message):
    """Like assert, but never compiled away."""
    if not truth:
        raise AssertionError(message)


def expect_equal(found, wanted, what):
    """Fails with both values, cut to a readable length."""
    expect(found == wanted, f"{what}: found {_short(found)}, wanted {_short(wanted)}")


def _short(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"


def replication_factor():
    """How many replicas the suites' topics get: one, or as many as KLAMM_REPLICATION_FACTOR says of a cluster."""
    return int(os.environ.get("KLAMM_REPLICATION_FACTOR", "1"))


def bootstrap():
    """The brokers to test, HOST:PORT[,…]: first argument, or KLAMM_BOOTSTRAP."""
    if len(sys.argv) > 1:
        return sys.argv[1]
    return os.environ["KLAMM_BOOTSTRAP"]
