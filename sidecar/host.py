"""CPU, memory, disk and uptime of this host, from psutil; a reading that fails is None."""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import psutil

from sidecar.payload import HostReading

log = logging.getLogger(__name__)
T = TypeVar("T")

# All that psutil is known to raise when a kernel's file is absent, shut off or not as expected.
FAILURES = (OSError, psutil.Error, ArithmeticError, AttributeError, LookupError, RuntimeError, ValueError)

# Linux counts guest time in user and nice as well, Windows interrupt and dpc in system: neither is added.
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
IDLE = ("idle", "iowait")


class CpuTimes(NamedTuple):
    """Seconds since boot, summed over all CPUs."""

    busy_s: float
    idle_s: float


class Memory(NamedTuple):
    """The host's RAM in bytes; `available` is what programs can have without swapping."""

    total: int
    used: int
    available: int


class Disk(NamedTuple):
    """The disk of the operating system in bytes."""

    total: int
    used: int


class Facts:
    """Where the facts about this host come from; every method may fail with one of FAILURES."""

    def hostname(self) -> str:
        return socket.gethostname()

    def cpu_times(self) -> CpuTimes:
        return summed(psutil.cpu_times())

    def cpu_count(self) -> int | None:
        return psutil.cpu_count()

    def load_avg(self) -> list[float] | None:
        """The load over 1, 5 and 15 minutes; None where the system knows no such thing (Windows)."""
        if not hasattr(os, "getloadavg"):
            return None
        return [round(load, 2) for load in os.getloadavg()]

    def memory(self) -> Memory:
        memory = psutil.virtual_memory()
        return Memory(memory.total, memory.used, memory.available)

    def disk(self) -> Disk:
        drive = os.environ.get("SYSTEMDRIVE", "C:") + "\\" if sys.platform == "win32" else "/"
        usage = psutil.disk_usage(drive)
        return Disk(usage.total, usage.used)

    def boot_time(self) -> float:
        return psutil.boot_time()


def summed(times: object) -> CpuTimes:
    """What psutil counted in one system's categories, as busy and idle."""
    busy, idle = (sum(getattr(times, name, 0.0) for name in names) for names in (BUSY, IDLE))
    return CpuTimes(busy, idle)


class Host:
    """Reads the host; owns the CPU counters, so one thread alone may call `read`."""

    def __init__(self, facts: Facts | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._facts = facts or Facts()
        self._clock = clock
        self._counted: tuple[float, CpuTimes] | None = None
        self._logged: dict[str, str] = {}

    def hostname(self) -> str:
        """This host's own name; empty when the system does not tell."""
        return self._try("hostname", self._facts.hostname) or ""

    def read(self) -> HostReading:
        """What the host does now; `cpu_percent` over the time since the last call, None at the first."""
        facts = self._facts
        window_s, cpu_percent = self._cpu()
        memory = self._try("memory", facts.memory)
        disk = self._try("disk", facts.disk)
        return {
            "window_s": window_s,
            "cpu_percent": cpu_percent,
            "load_avg": self._try("load_avg", facts.load_avg),
            "cpu_count": self._try("cpu_count", facts.cpu_count),
            "ram_total_bytes": memory.total if memory else None,
            "ram_used_bytes": memory.used if memory else None,
            "ram_available_bytes": memory.available if memory else None,
            "disk_total_bytes": disk.total if disk else None,
            "disk_used_bytes": disk.used if disk else None,
            "uptime_s": self._try("uptime", lambda: max(0, int(time.time() - facts.boot_time()))),
        }

    def _cpu(self) -> tuple[float | None, float | None]:
        """The window in seconds and the percentage over it; counters that failed end the window."""
        now = self._clock()
        times = self._try("cpu_times", self._facts.cpu_times)
        before = self._counted
        self._counted = (now, times) if times else None
        if times is None or before is None:
            return None, None
        counted_at, earlier = before
        busy = times.busy_s - earlier.busy_s
        total = busy + times.idle_s - earlier.idle_s
        if total <= 0:
            return None, None
        return round(now - counted_at, 3), round(min(max(100 * busy / total, 0.0), 100.0), 1)

    def _try(self, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except FAILURES as error:
            reason = f"{type(error).__name__}: {error}"
            if self._logged.get(what) != reason:
                log.warning("%s of this host cannot be read: %s", what, reason)
            self._logged[what] = reason
            return None
