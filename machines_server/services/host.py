"""The host that the server runs on."""

import threading
import time
from typing import Any

from host_facts.host import Host
from machines_server.contract.telemetry import System, system
from machines_server.core.sample import LOADS, HostSample, metrics_of

CPU_WINDOW_S = 0.2
"""The time over which the CPU's load is measured."""
MAX_AGE_S = 1.0
"""How long a reading is reused."""


class HostService:
    """Reads this host at most once per MAX_AGE_S."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._host = Host()
        self._answer: System | None = None
        self._read_at = 0.0

    def system(self) -> System:
        """The latest reading; takes CPU_WINDOW_S if it is too old. Unreadable values are null."""
        with self._lock:
            if self._answer is None or time.monotonic() - self._read_at > MAX_AGE_S:
                self._answer = self._read()
                self._read_at = time.monotonic()
            return self._answer

    def _read(self) -> System:
        self._host.read()  # starts measuring the CPU
        time.sleep(CPU_WINDOW_S)
        now, reading = time.time(), self._host.read()
        loads = dict(zip(LOADS, reading["load_avg"] or (None, None, None), strict=True))
        values: dict[str, Any] = {**reading, **loads}
        sample = HostSample(**{metric.name: values[metric.name] for metric in metrics_of(HostSample)})
        return system(sample, self._host.hostname(), now)
