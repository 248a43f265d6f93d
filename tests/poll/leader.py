"""A process that polls or stands by, as a worker does: `python -m tests.poll.leader LOCK INTERVAL_S`.

Every line that it prints is one finished cycle: its process and when it began.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from machines_server.core.registry import Registry
from machines_server.core.sample import Cycle, Library, PollResult, Sample
from machines_server.poll.schedule import Poller, Timing
from machines_server.poller_lock import PollerLock


class PrintedCycles:
    """A sink that tells of every cycle."""

    def __init__(self, _on_fault: Callable[[str | None], None]) -> None:
        pass

    def put(self, item: Registry | PollResult | Sample | Cycle | Library) -> None:
        """Print a cycle in one piece."""
        if isinstance(item, Cycle):
            os.write(1, f"{os.getpid()} {item.started_at}\n".encode())

    def close(self) -> bool:
        """Nothing is left to write."""
        return True


def main(lock: str, interval_s: str) -> None:
    """Poll nobody, until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    timing, nobody = Timing(float(interval_s), float(interval_s) / 2), Registry()
    Poller(timing, lambda _: nobody, PollerLock(Path(lock)), PrintedCycles).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
