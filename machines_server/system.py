"""The machine that the server itself runs on."""

import socket
from collections.abc import Callable
from typing import Any

import psutil

from machines_server.core.sample import HostSample, telemetry
from machines_server.core.times import rfc3339

CPU_WINDOW_S = 0.2


def read_system(now: float) -> dict[str, Any]:
    """CPU, memory and disk in the form of `telemetry`, with `hostname` and `timestamp`; takes 0.2 s.

    What cannot be read is null. GPUs are the sidecar's business.
    """
    memory = _reading(psutil.virtual_memory)
    disk = _reading(lambda: psutil.disk_usage("/"))
    load = _reading(psutil.getloadavg) or (None, None, None)
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
