"""What a reader sees of healthy hosts while others misbehave."""

import threading
import time
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Self

import psutil
import requests

from tests.running import RunningServer

INTERVAL_S, TIMEOUT_S = 2.0, 1.5
PACE = {"MACHINES_POLL_INTERVAL_S": str(INTERVAL_S), "MACHINES_POLL_TIMEOUT_S": str(TIMEOUT_S)}
"""Settings with which hosts that are well answer in time on a busy machine too."""
LATE_S, MEMORY_BYTES = TIMEOUT_S - 0.5, 50 * 2**20
LOOK_S = 0.1


class Neighbours:
    """Looks all the time at the machines of these names, all of which are online already."""

    def __init__(self, server: RunningServer, names: Collection[str]) -> None:
        self._server, self._names = server, names
        self._poller = psutil.Process(server.poller_pid())
        self._memory_bytes = self._poller.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="neighbours")
        self._latest_s, self._statuses, self._looks = 0.0, set[str](), 0
        self._own_latest_s = 0.0
        """By how much we looked late ourselves: so late may everything be on a machine that is so loaded."""
        self._failures: list[str] = []

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._looked_s = time.monotonic() - self._began

    def assert_undisturbed(self) -> None:
        """They stayed online, their samples came in time, and the same process polls with as much memory."""
        assert self._failures == [], self._failures
        assert self._statuses == {"online"}, self._statuses
        assert self._looks >= 2 * self._looked_s / INTERVAL_S, (self._looks, self._looked_s)
        assert self._latest_s <= LATE_S + self._own_latest_s, (self._latest_s, self._own_latest_s)
        assert self._server.poller_pid() == self._poller.pid
        grown_bytes = _most_memory_bytes(self._poller.pid) - self._memory_bytes
        assert grown_bytes <= MEMORY_BYTES, grown_bytes

    def _run(self) -> None:
        due = self._began
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            self._own_latest_s = max(self._own_latest_s, time.monotonic() - due)
            due = max(due + LOOK_S, time.monotonic())
            try:
                self._look()
            except (requests.RequestException, ValueError, KeyError, TypeError) as error:
                self._failures.append(repr(error))

    def _look(self) -> None:
        fleet, now = self._server.fleet(), time.time()
        for machine in (fleet[name] for name in self._names):
            self._statuses.add(machine["status"])
            age_s = now - datetime.fromisoformat(machine["sampled_at"]).timestamp()
            self._latest_s = max(self._latest_s, age_s - INTERVAL_S)
        self._looks += 1


def _most_memory_bytes(pid: int) -> int:
    """The most that a process has ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak) * 1024


def assert_said_once(log: str) -> None:
    """No line of the log says what another has said, but for the time."""
    assert "Traceback" not in log, log
    said = Counter(line.partition(" ")[2] for line in log.splitlines())
    again = [(line, count) for line, count in said.items() if count > 1]
    assert again == [], again
