"""Reads one metric over a week and a year, over HTTP and beside Prometheus, and measures its size on disk."""

import json
import sqlite3
import time
from contextlib import ExitStack, closing
from math import isclose
from pathlib import Path
from urllib.parse import quote

from bench.fill import DAY_S, Host, fill, periods
from bench.peers import NOT_HERE, is_there, prometheus
from bench.prometheus import Series
from bench.table import Line, TimedRequests, compared, limited, note, server
from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS
from machines_server.core.past.rollup import TIER_STEPS_S

ROUNDS, IN_A_ROUND = 12, 50
DAYS = 365
PAST = ((DAYS, 300), (30, 30), (9, 5))
"""How many days ago each period began, and its interval in seconds; every tier is full all the same."""
METRIC = "cpu_percent"
WEEK_STEPS_S = {"auto": 1800, "2040": 2040}
"""The step that `auto` chooses, and one that only the tier of minutes divides, which has no goal."""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Write a year of one machine, read parts of it and measure its size; skipped when `quick`."""
    if quick:
        note("history is skipped, since writing it takes a minute")
        return []
    now_s = int(time.time())
    week = Series(now_s - 8 * DAY_S)
    path = folder / "var" / "telemetry.db"
    began = time.monotonic()
    samples = fill(path, [Host("bench0")], periods(now_s, PAST), on_sample=week.add)
    said = ", ".join(f"from {days} days ago every {interval_s} s" for days, interval_s in PAST)
    note(
        f"{DAYS} days of one machine, {samples} samples, written in {time.monotonic() - began:.0f} s: {said}"
    )
    with ExitStack() as stack:
        machines = folder / "machines"
        machines.mkdir()
        _, port = stack.enter_context(server(folder, machines, MACHINES_POLLER="off"))
        peer, store = None, folder / "prometheus"
        if is_there("prometheus", "promtool"):
            week.write_blocks(store)
            note(f"the last 8 days, {week.values} values, given to Prometheus")
            peer = stack.enter_context(prometheus(store))[1]
        lines = [_week(port, peer, now_s, asked) for asked in WEEK_STEPS_S]
        year = TimedRequests(port, f"/api/machines/bench0/history?metric={METRIC}&from=-{DAYS}d")
        year.ask(ROUNDS * IN_A_ROUND)
        lines.append(Line(f"one metric, {DAYS} days, step auto", str(year.times())))
    return lines + _sizes(path, store if peer else None, week.values)


def _week(port: int, peer_port: int | None, now_s: int, asked: str) -> Line:
    """Read the same week from both, in turns; raises RuntimeError if their answers differ."""
    step_s = WEEK_STEPS_S[asked]
    to_s = now_s // step_s * step_s
    from_s = (to_s - 7 * DAY_S) // step_s * step_s
    ours = TimedRequests(
        port, f"/api/machines/bench0/history?metric={METRIC}&from={from_s}&to={to_s}&step={asked}"
    )
    # Prometheus labels a window by its end, we by its beginning.
    query = quote(f"avg_over_time({METRIC}[{step_s}s])")
    span = f"start={from_s + step_s}&end={to_s}&step={step_s}"
    theirs = TimedRequests(peer_port, f"/api/v1/query_range?query={query}&{span}") if peer_port else None
    for _ in range(ROUNDS):
        points = json.loads(ours.ask(IN_A_ROUND))["series"][0]["points"]
        if theirs:
            (found,) = json.loads(theirs.ask(IN_A_ROUND))["data"]["result"]
    what = f"one metric, 7 days, {len(points)} points, step {asked}"
    if theirs is None:
        return _line(asked, what, ours, NOT_HERE.format("Prometheus"), None)
    averages = {at: avg for at, avg, *_ in points}
    said = {at - step_s: float(value) for at, value in found["values"]}
    if averages.keys() != said.keys() or not all(
        isclose(averages[at], said[at], abs_tol=1e-4) for at in said
    ):
        raise RuntimeError("our answer and that of Prometheus differ for the same samples")
    ratio = ours.times().median / theirs.times().median
    return _line(asked, what, ours, f"Prometheus {theirs.times()}", ratio)


def _line(asked: str, what: str, ours: TimedRequests, peer: str, ratio: float | None) -> Line:
    """The line of a step; only the step that `auto` chooses has a goal."""
    if asked == "auto":
        return compared(what, str(ours.times()), peer, ratio, 0.25)
    return Line(what, str(ours.times()), peer, ratio)


def _sizes(path: Path, peer: Path | None, peer_values: int) -> list[Line]:
    file_bytes = path.stat().st_size
    theirs = ""
    if peer:
        blocks = [meta.parent for meta in peer.glob("*/meta.json")]
        stored = sum(file.stat().st_size for block in blocks for file in block.rglob("*") if file.is_file())
        theirs = f"Prometheus {stored / peer_values:.1f} B"
    lines = []
    with closing(sqlite3.connect(path)) as connection:
        values = 0
        for table, metrics in (("sample", MACHINE_METRICS), ("gpu_sample", GPU_METRICS)):
            counts = " + ".join(f"count({metric.column})" for metric in metrics)
            values += connection.execute(f"SELECT {counts} FROM {table}").fetchone()[0]
        try:
            pages = dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
        except sqlite3.OperationalError:
            note("this SQLite was built without dbstat, so bytes per value are not known")
        else:
            raw = pages["sample"] + pages["gpu_sample"]
            lines.append(limited("on disk per raw value", raw / values, "B", 8, peer=theirs))
            for tier in TIER_STEPS_S:
                size = pages[f"sample_{tier}"] + pages[f"gpu_sample_{tier}"]
                lines.append(Line(f"rollups {tier}, two GPUs", f"{size / 1e6:.1f} MB"))
    size_mb = file_bytes / 1e6
    return [*lines, limited("one machine with two GPUs, after a year", size_mb, "MB", 40)]
