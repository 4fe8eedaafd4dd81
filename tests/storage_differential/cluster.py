#!/usr/bin/env python3
"""Three brokers on an ensemble in the place of one, until told to end: cluster.py KEY=VALUE…

Prints where they listen, then kills the leader of their ensemble over and over. Ends with an error if a broker has ended
or panicked by then, or if no leader was killed.
"""

import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "foreign/python"))

from cluster import Cluster

# So that clients work before, during and after each election of the ensemble; but longer than a session, whose time begins
# anew with each leader of the ensemble: a broker that is gone would stay registered for as long as this goes on.
STRIKE_EVERY_S = 8


def main():
    over = threading.Event()
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: over.set())
    cluster = Cluster(settings=dict(pair.split("=", 1) for pair in sys.argv[1:]))
    strikes = 0
    try:
        cluster.start()
        print(f"cluster ready on {cluster.bootstrap}", flush=True)
        while not over.wait(STRIKE_EVERY_S):
            print(cluster.strike().told(), flush=True)
            strikes += 1
        if not cluster.alive():
            sys.exit(f"a broker has ended\n{cluster.log_tail()}")
        if "panicked at" in cluster.log_tail(1_000_000):
            sys.exit(f"a broker has panicked\n{cluster.log_tail()}")
        if strikes == 0:
            sys.exit("no leader of the ensemble was killed")
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
