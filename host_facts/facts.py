"""The facts about this host: from psutil, with what it lacks about disks and ZFS."""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from host_facts.disk import Mount, data_mount_point
from host_facts.zfs import reclaimable_bytes

# Guest time is part of user and nice (Linux), interrupt and dpc are part of system (Windows).
BUSY_TIMES = ("user", "nice", "system", "irq", "softirq", "steal")
IDLE_TIMES = ("idle", "iowait")


class CpuTimes(NamedTuple):
    """Seconds since boot, summed over all CPUs."""

    busy_s: float
    idle_s: float


class Memory(NamedTuple):
    """The host's RAM in bytes; `available` is what programs can get without swapping."""

    total: int
    used: int
    available: int


class Disk(NamedTuple):
    """One file system in bytes; `available` is what a user can still write."""

    total: int
    used: int
    available: int


class Facts:
    """The facts about this host; every method may raise whatever a library raises."""

    def hostname(self) -> str:
        return socket.gethostname()

    def cpu_times(self) -> CpuTimes:
        return summed(psutil.cpu_times())

    def cpu_count(self) -> int | None:
        return psutil.cpu_count()

    def load_avg(self) -> list[float] | None:
        """The load average over 1, 5 and 15 minutes; None on systems without one, such as Windows."""
        if not hasattr(os, "getloadavg"):
            return None
        return [round(load, 2) for load in os.getloadavg()]

    def memory(self) -> Memory:
        memory = psutil.virtual_memory()
        return Memory(memory.total, memory.used, memory.available)

    def arc_reclaimable(self) -> int:
        """How many bytes of the used memory ZFS would release."""
        return reclaimable_bytes(_arcstats().read_text("ascii"))

    def mounts(self) -> list[Mount]:
        return [
            Mount(one.device, one.mountpoint, one.fstype, "ro" not in one.opts.split(","))
            for one in psutil.disk_partitions(all=True)
        ]

    def data_mount_point(self, mounts: Sequence[Mount]) -> str:
        """The mount point of the file system that holds this host's data."""
        if sys.platform == "win32":
            return os.environ.get("SYSTEMDRIVE", "C:") + "\\"
        return data_mount_point(mounts, lambda place: psutil.disk_usage(place).total)

    def disk(self, place: str) -> Disk:
        usage = psutil.disk_usage(place)
        return Disk(usage.total, usage.used, usage.free)

    def boot_time(self) -> float:
        return psutil.boot_time()


def summed(times: object) -> CpuTimes:
    """The times that psutil reports by category, as busy and idle."""
    busy, idle = (sum(getattr(times, name, 0.0) for name in names) for names in (BUSY_TIMES, IDLE_TIMES))
    return CpuTimes(busy, idle)


def has_arc(mounts: Sequence[Mount]) -> bool:
    """Return whether the reported memory includes a ZFS cache; a meminfo mounted by LXC does not."""
    return _arcstats().exists() and not any(mount.place == f"{_procfs()}/meminfo" for mount in mounts)


def with_arc(memory: Memory, reclaimable: int) -> Memory:
    """The same memory with what the ZFS cache would release counted as available."""
    given = min(reclaimable, memory.used, memory.total - memory.available)
    return Memory(memory.total, memory.used - given, memory.available + given)


def _arcstats() -> Path:
    return Path(f"{_procfs()}/spl/kstat/zfs/arcstats")


def _procfs() -> str:
    return getattr(psutil, "PROCFS_PATH", "/proc")
