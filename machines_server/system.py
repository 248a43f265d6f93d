"""The machine that the server itself runs on."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from machines_server.core.sample import HostSample, telemetry
from machines_server.core.times import rfc3339

CPU_WINDOW_S = 0.2
MAX_AGE_S = 1.0


class System:
    """Reads this machine at most once a second, however many ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answer: dict[str, Any] = {}
        self._read_at = float("-inf")

    def read(self) -> dict[str, Any]:
        """The form of `telemetry`, with `hostname` and `timestamp`; may take 0.2 s."""
        with self._lock:
            if time.monotonic() - self._read_at > MAX_AGE_S:
                self._answer = _read(time.time())
                self._read_at = time.monotonic()
            return self._answer


def _read(now: float) -> dict[str, Any]:
    """CPU, memory and disk.

    What cannot be read is null. GPUs are the sidecar's business.
    """
    memory = _reading(psutil.virtual_memory)
    disk = _reading(lambda: psutil.disk_usage("/"))
    load = [round(load, 2) for load in _reading(psutil.getloadavg) or ()] or [None] * 3
    booted_at = _reading(psutil.boot_time)
    sample = HostSample(
        cpu_percent=_reading(lambda: psutil.cpu_percent(CPU_WINDOW_S)),
        load_1m=load[0],
        load_5m=load[1],
        load_15m=load[2],
        ram_used_bytes=memory and memory.used,
        ram_total_bytes=memory and memory.total,
        ram_available_bytes=memory and memory.available,
        disk_used_bytes=disk and disk.used,
        disk_total_bytes=disk and disk.total,
        uptime_s=booted_at and round(now - booted_at),
    )
    return {"hostname": socket.gethostname(), "timestamp": rfc3339(now), **telemetry(sample)}


def _reading(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, psutil.Error):
        return None
