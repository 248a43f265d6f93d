"""A fleet of many thousand hosts in one cycle on one core."""

import os
import resource
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import psutil

from bench.poll import polling
from bench.simulation import simulated
from bench.table import Line, cpu_s, note, wait_until
from machines_server.store.sqlite.connection import is_empty_file, open_reader

MAX_HOSTS, FOR_S, INTERVAL_S, TIMEOUT_S = 20_000, 30, 5, 2
SPARE_FILES = 2000
"""How many files the poller may have open beside a connection to each of the two endpoints of a host."""
FIRST_CYCLE_S, WARM_UP_S = 300, 25
"""How long the first cycle may take, which reads all files and opens all connections; and for how long
afterwards every Ollama is asked for the models on its disk."""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Poll 20,000 hosts, or as many as a process may have connections to, on one core; skipped when `quick`.

    The fake hosts run on the other cores.
    """
    if quick:
        note("thousands of hosts are skipped")
        return []
    _, max_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    hosts = min(MAX_HOSTS, (max_files - SPARE_FILES) // 2)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return [Line(f"{hosts} hosts on one core", "this machine has only one")]
    with simulated(hosts) as fleet:
        for pid in fleet.pids:
            psutil.Process(pid).cpu_affinity(cores[1:])
        note(
            f"{hosts} fake hosts are polled on one core for {WARM_UP_S + FOR_S} s, once their files are read"
        )
        prefix = ["taskset", "-c", str(cores[0])]
        machines = fleet.declare(folder / "machines")
        with polling(folder, machines, INTERVAL_S, TIMEOUT_S, *prefix) as pid:
            path = folder / "var" / "telemetry.db"
            wait_until(lambda: _latest(path) is not None, FIRST_CYCLE_S, "the first cycle has ended")
            time.sleep(WARM_UP_S)
            used_s, began_at = cpu_s(pid), time.time()
            cycles = _cycles(path, FOR_S)
            ended_at = time.time()
            share = (cpu_s(pid) - used_s) / (ended_at - began_at)
    lasted = sorted(cycles.values())
    # The last cycle may not have ended yet.
    due = int((ended_at - lasted[-1] - min(cycles)) / INTERVAL_S) + 1
    missed = max(0, due - len(cycles))
    whole = [at for at in cycles if at > began_at]
    good = _good_samples(path, min(whole), max(at + cycles[at] for at in whole)) if whole else 0
    lost = hosts * len(whole) - good
    ours = f"{missed} of {due} cycles missed, {lost} of {hosts * len(whole)} samples"
    more = f"; a cycle {median(lasted):.1f} s, longest {lasted[-1]:.1f}; {share:.0%} of the core"
    what = f"{hosts} hosts in one {INTERVAL_S} s cycle on one core"
    is_reached = (hosts == MAX_HOSTS or None) if missed == lost == 0 else False
    return [Line(what, ours + more, "", None, f"{MAX_HOSTS} hosts, none missed", is_reached)]


def _good_samples(path: Path, from_s: float, to_s: float) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM sample WHERE up = 1 AND at_ms BETWEEN ? AND ?", (from_s * 1000, to_s * 1000)
        ).fetchone()
    found: int = count
    return found


def _cycles(path: Path, for_s: float) -> dict[float, float]:
    """The cycles that end within `for_s`: when each began, and how long it took."""
    cycles: dict[float, float] = {}
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        time.sleep(0.5)
        if latest := _latest(path):
            cycles[latest[0] / 1000] = (latest[1] - latest[0]) / 1000
    return cycles


def _latest(path: Path) -> tuple[int, int] | None:
    """When the latest cycle began and ended, in milliseconds; None before the first."""
    if not path.exists() or is_empty_file(path):
        return None
    try:
        with closing(open_reader(path)) as connection:
            row: tuple[int, int] | None = connection.execute(
                "SELECT cycle_started_at_ms, ended_at_ms FROM poll_span ORDER BY id DESC LIMIT 1"
            ).fetchone()
            return row
    except sqlite3.OperationalError:  # its tables are being made
        return None
