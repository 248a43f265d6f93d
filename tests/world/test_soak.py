"""Hours of a fleet's life, compressed: nothing grows, and the history is what the script says.

Two hours are 1,440 cycles of 5 s, of which an interval of 0.75 s makes 18 minutes. Half a second would be
allowed, but leaves two cores no spare time: whenever the machine paused for a moment, a cycle was missed.
`MACHINES_TEST_SOAK_S` sets another length, in real seconds.
"""

import os
import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
import pytest

from bench.answers import LEAVES_IN_S
from bench.scripts import Kind, Mode, kind_of, phase_at, script_of, spans
from bench.simulation import simulated
from machines_server.store.sqlite.connection import WAL_BYTES
from tests.running import ANEW, RunningServer
from tests.store.sqlite.telemetry.folds import rollups_that_differ

pytestmark = [pytest.mark.slow, pytest.mark.long]

SPAN_S = float(os.environ.get("MACHINES_TEST_SOAK_S", "1080"))
HOSTS = 500
INTERVAL_S, TIMEOUT_S = 0.75, 0.3
LATE_S = INTERVAL_S + TIMEOUT_S + 0.5
"""How long after its cause a change may come, as is promised."""
GROWTH = 1.05
SMALLEST = {"rss": 2**20, "rss of all": 3 * 2**20, "open files": 5, "threads": 2, "wal": WAL_BYTES}
"""A difference below this is no growth; the write-ahead log grows and is cut back all the time."""


def test_nothing_grows_and_the_history_is_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"MACHINES_POLL_INTERVAL_S": str(INTERVAL_S), "MACHINES_POLL_TIMEOUT_S": str(TIMEOUT_S)}
    with simulated(HOSTS) as fleet:
        fleet.declare(tmp_path / "machines")
        with RunningServer(tmp_path, prefix=ANEW, **settings) as server:
            poller = psutil.Process(server.poller_pid())
            began_at = fleet.run_scripts(SPAN_S, in_s=10)
            used = _watch(server, poller, began_at)
            assert server.poller_pid() == poller.pid
            _check_clocks(server)
            log = server.log.read_text()
    tenth, end = used[len(used) // 10 : len(used) // 5], used[-len(used) // 10 :]
    said = []
    for what in SMALLEST:
        before, after = (median(one[what] for one in part) for part in (tenth, end))
        said.append(f"{what} {before:,.0f} -> {after:,.0f}")
        assert after <= max(before * GROWTH, before + SMALLEST[what]), said
    with capsys.disabled():
        print(f"\nsoak of {SPAN_S:g} s, {HOSTS} hosts: {'; '.join(said)}")  # noqa: T201  what it found
    assert "Traceback" not in log
    with closing(sqlite3.connect(tmp_path / "var" / "telemetry.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM poll_span").fetchone() == (1,)
        assert _samples_that_differ(connection, began_at) == []
        _check_readings(connection, began_at)
        assert rollups_that_differ(connection) == []
        for kind, differ in (("status", _statuses_that_differ), ("models", _models_that_differ)):
            assert differ(connection, began_at) == {}, kind


def _watch(server: RunningServer, poller: psutil.Process, began_at: float) -> list[dict[str, int]]:
    """What the poller uses, every second of the script, while clients ask."""
    time.sleep(max(0.0, began_at - time.time()))
    used, wal = [], server.data / "telemetry.db-wal"
    main = psutil.Process(server.process.pid)
    everybody = [main, *main.children(recursive=True)]
    while time.time() < began_at + SPAN_S:
        for path in ("infrastructure", "machines/host3/history?metric=cpu_percent", "events", "models"):
            assert server.get(f"/api/{path}").ok
        used.append(
            {
                "rss": poller.memory_info().rss,
                "rss of all": sum(one.memory_info().rss for one in everybody),
                "open files": poller.num_fds(),
                "threads": poller.num_threads(),
                "wal": wal.stat().st_size,
            }
        )
        time.sleep(1.0)
    return used


def _check_clocks(server: RunningServer) -> None:
    """A model's end is told by our clock, whatever the clock of its host says."""
    fleet, now = server.fleet(), time.time()
    for number in (one for one in range(HOSTS) if kind_of(one) is Kind.WRONG_CLOCK):
        (model,) = fleet[f"host{number}"]["ollama"]["models"]
        leaves_at = datetime.fromisoformat(model["expires_at"]).timestamp()
        assert abs(leaves_at - now - LEAVES_IN_S) < 10, (number, model)


def _check_readings(connection: sqlite3.Connection, began_at: float) -> None:
    """There is nearly a sample of each cycle; what is steady, noisy or slow is so in the history."""
    expected = SPAN_S / INTERVAL_S
    rows = connection.execute(
        "SELECT name, count(*), count(DISTINCT cpu_percent), min(poll_s) / 1000.0"
        " FROM sample JOIN machine ON machine.id = machine_id WHERE at_ms / 1000.0 > ? GROUP BY name",
        (began_at + LATE_S,),
    ).fetchall()
    assert len(rows) == HOSTS
    for name, count, values, quickest_s in rows:
        number = int(name.removeprefix("host"))
        kind = kind_of(number)
        assert count > 0.98 * expected - 2, (name, count, expected)
        assert (values == 1) == (kind is Kind.STEADY), (name, values)
        if kind is Kind.SLOW:
            assert quickest_s >= script_of(number, SPAN_S)[0].delay_s - 0.001, (name, quickest_s)


def _samples_that_differ(connection: sqlite3.Connection, began_at: float) -> list[tuple[str, float, int]]:
    """Samples that say other than the script, or come after a gap; a moment around a change says nothing."""
    wrong, before = [], dict[str, float]()
    rows = connection.execute(
        "SELECT name, at_ms / 1000.0 - ?, up FROM sample JOIN machine ON machine.id = machine_id"
        " ORDER BY machine_id, at_ms",
        (began_at,),
    )
    for name, at_s, up in rows:
        script = script_of(int(name.removeprefix("host")), SPAN_S)
        gap_s = at_s - before.get(name, at_s)
        before[name] = at_s
        settled = all(not 0 <= at_s - phase.from_s <= LATE_S for phase in script[1:])
        expected = phase_at(script, at_s).mode == Mode.UP
        if (settled and bool(up) != expected) or gap_s > 3 * INTERVAL_S + TIMEOUT_S:
            wrong.append((name, round(at_s, 2), up))
    assert len(before) == HOSTS
    return wrong


def _events(
    connection: sqlite3.Connection, types: str, detail: str
) -> dict[int, list[tuple[float, str, str]]]:
    """When, what and more of what happened to each host."""
    found = defaultdict(list)
    for name, at, kind, more in connection.execute(
        f"SELECT name, at_ms / 1000.0, type, {detail} FROM event JOIN machine ON machine.id = machine_id"
        f" WHERE type IN ({types}) ORDER BY at_ms, event.id"
    ):
        found[int(name.removeprefix("host"))].append((at, kind, more))
    return found


def _statuses_that_differ(connection: sqlite3.Connection, began_at: float) -> dict[int, object]:
    """Hosts whose transitions are not those of the script, each once and in time."""
    events = _events(connection, "'online', 'degraded', 'offline', 'unknown'", "''")
    wrong: dict[int, object] = {}
    for number in range(HOSTS):
        script = script_of(number, SPAN_S)
        expected = [
            (from_s, "online" if phase.mode == Mode.UP else "offline")
            for phase, from_s, _ in spans(script, SPAN_S)
            if from_s == 0 or phase.mode != phase_at(script, from_s - 0.001).mode
        ]
        seen = [(at - began_at, kind) for at, kind, _ in events[number] if kind != "degraded"]
        both = list(zip(seen, expected, strict=False))
        in_time = all(0 <= at_s - due_s <= LATE_S for (at_s, _), (due_s, _) in both[1:])
        if [kind for _, kind in seen] != [kind for _, kind in expected] or not in_time:
            wrong[number] = seen, expected
    return wrong


def _models_that_differ(connection: sqlite3.Connection, began_at: float) -> dict[int, object]:
    """Hosts whose models did not come and go as the script has it."""
    events = _events(connection, "'model_loaded', 'model_unloaded'", "json_extract(detail, '$.model')")
    wrong: dict[int, object] = {}
    for number in (one for one in range(HOSTS) if kind_of(one) is Kind.LOADING):
        script = script_of(number, SPAN_S)
        expected = set()
        for before, after in pairwise(script):
            for kind, models in (
                ("model_loaded", set(after.models) - set(before.models)),
                ("model_unloaded", set(before.models) - set(after.models)),
            ):
                expected |= {(after.from_s, kind, model) for model in models}
        seen = [(at - began_at, kind, model) for at, kind, model in events[number] if at > began_at + LATE_S]
        matched = {
            one
            for one in expected
            if sum(one[1:] == other[1:] and 0 <= other[0] - one[0] <= LATE_S for other in seen) == 1
        }
        if matched != expected or len(seen) != len(expected):
            wrong[number] = seen, sorted(expected)
    return wrong
