"""CPU, memory, disk and uptime of this host; a reading that fails is None."""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple, TypedDict, TypeVar

from host_facts.facts import CpuTimes, Facts, Memory, has_arc, with_arc

log = logging.getLogger(__name__)
T = TypeVar("T")

MOUNTS_INTERVAL_S = 60.0
"""How often the table of mounted file systems is read."""


class HostReading(TypedDict):
    """The host without its GPUs; what could not be read is null."""

    window_s: float | None
    """The seconds over which `cpu_percent` was measured."""
    cpu_percent: float | None
    """CPU time that was not idle, over all cores, from 0 to 100."""
    load_avg: list[float] | None
    """The averages over 1, 5 and 15 minutes."""
    cpu_count: int | None
    ram_total_bytes: int | None
    ram_used_bytes: int | None
    ram_available_bytes: int | None
    """What new work can take without swapping."""
    disk_total_bytes: int | None
    """Of the file system that holds the host's data."""
    disk_used_bytes: int | None
    disk_available_bytes: int | None
    """What a user can still write."""
    uptime_s: int | None


class _MountFacts(NamedTuple):
    """What the table of mounts shows: where the data is, and whether there is a ZFS cache."""

    until: float
    place: str
    has_arc: bool


class Host:
    """Reads the host; keeps CPU counters between readings, so only one thread may call `read`."""

    def __init__(self, facts: Facts | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._facts = facts or Facts()
        self._clock = clock
        self._counted: tuple[float, CpuTimes] | None = None
        self._mounted = _MountFacts(float("-inf"), "/", has_arc=False)
        self._logged: dict[str, str] = {}

    def hostname(self) -> str:
        """This host's own name; empty if it cannot be read."""
        return self._try("hostname", self._facts.hostname) or ""

    def read(self) -> HostReading:
        """Read the host; `cpu_percent` is over the time since the last valid reading of its counters."""
        facts, now = self._facts, self._clock()
        window_s, cpu_percent = self._cpu(now)
        if now >= self._mounted.until:
            self._mounted = self._read_mounts(now)
        memory = self._memory()
        disk = self._try("disk", lambda: facts.disk(self._mounted.place))
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
            "disk_available_bytes": disk.available if disk else None,
            "uptime_s": self._try("uptime", lambda: max(0, int(time.time() - facts.boot_time()))),
        }

    def _cpu(self, now: float) -> tuple[float | None, float | None]:
        """The window in seconds and the percentage over it; counters that went backwards start over."""
        times = self._try("cpu_times", self._facts.cpu_times)
        if times is None:
            return None, None
        before, self._counted = self._counted, (now, times)
        if before is None:
            return None, None
        counted_at, earlier = before
        busy = times.busy_s - earlier.busy_s
        total = busy + times.idle_s - earlier.idle_s
        if total <= 0:
            if total < 0:
                self._counted = None  # either of the two readings may be wrong
            return None, None
        return round(now - counted_at, 3), round(min(max(100 * busy / total, 0.0), 100.0), 1)

    def _memory(self) -> Memory | None:
        memory = self._try("memory", self._facts.memory)
        if memory is None or not self._mounted.has_arc:
            return memory
        return with_arc(memory, self._try("ZFS cache", self._facts.arc_reclaimable) or 0)

    def _read_mounts(self, now: float) -> _MountFacts:
        mounts = self._try("mounts", self._facts.mounts) or []
        place = self._try("data_place", lambda: self._facts.data_mount_point(mounts)) or "/"
        return _MountFacts(
            now + MOUNTS_INTERVAL_S, place, self._try("ZFS cache", lambda: has_arc(mounts)) or False
        )

    def _try(self, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - psutil raises anything for odd files
            reason = f"{type(error).__name__}: {error}"
            if self._logged.get(what) != reason:
                log.warning("%s of this host cannot be read: %s", what, reason)
            self._logged[what] = reason
            return None
