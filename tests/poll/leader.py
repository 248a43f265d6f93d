"""A process that polls or stands by, as a worker does: `python -m tests.poll.leader LOCK INTERVAL_S [PORT]`.

Every line that it prints is one finished cycle, its process and when it began, or one list of what the Ollama
at PORT has on its disk.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from machines_server.core.machine import Registry
from machines_server.core.poller_counts import Backlog
from machines_server.core.sample import Cycle, Library
from machines_server.poll.schedule import Poller, Timing
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.coordination.poller_requests import PollerRequests
from machines_server.store.values import Update
from tests.core.machines import a_machine


class PrintedCycles:
    """A sink that tells of every cycle."""

    def __init__(self, _on_fault: Callable[[str | None], None]) -> None:
        pass

    def put(self, item: Update) -> None:
        """Print a cycle in one piece."""
        if isinstance(item, Cycle):
            os.write(1, f"{os.getpid()} {item.started_at}\n".encode())
        elif isinstance(item, Library):
            os.write(1, f"library {len(item.models)}\n".encode())

    def backlog(self) -> Backlog:
        """Nothing waits to be written."""
        return Backlog()

    def close(self) -> bool:
        """Nothing is left to write."""
        return True


def main(lock: str, interval_s: str, port: str | None = None) -> None:
    """Poll nobody, or one Ollama, until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    machines = [] if port is None else [a_machine("one", port=int(port), has_sidecar=False)]
    timing, registry = Timing(float(interval_s), float(interval_s) / 2), Registry(tuple(machines))
    election, wanted = PollerLock(Path(lock)), PollerRequests(Path(lock).with_name("wanted"))
    Poller(timing, lambda _now, _pause: registry, election, PrintedCycles, wanted).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
