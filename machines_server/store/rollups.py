"""Rollups and retention of `telemetry.db`, in steps that hold the writer for some 20 ms each.

A sample marks its minute as due in the transaction that writes it. A rollup is made from all samples of its
bucket, so that making it again changes nothing, and the mark goes in the same transaction: what is late, or
was cut short, is made up by itself.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from machines_server.core.metrics import GPU_METRICS, MACHINE_METRICS, Metric
from machines_server.core.rollup import HOUR, MINUTE, RAW, TEN_MINUTES, TIER_STEPS_S, TIERS
from machines_server.core.status import Status
from machines_server.store.connection import transaction

STEP_S = 0.02
CATCH_UP = 4.0
"""How much faster than time passes the clock that ages samples may run: a wall clock that jumps forward
must not empty the database."""
PRUNE_EVERY_S = 60
VACUUM_PAGES = 200
_VACUUM_FROM_PAGES = 2000


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each tier is kept, in seconds."""

    raw_s: float
    minute_s: float
    hour_s: float

    @property
    def by_tier(self) -> Mapping[str, float]:
        """The same for every tier, finest first."""
        return {RAW: self.raw_s, MINUTE: self.minute_s, TEN_MINUTES: self.minute_s, HOUR: self.hour_s}


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of samples: its key, how it counts time, and how many seconds of it are deleted at once."""

    name: str
    key: str
    tier: str
    chunk_s: int

    @property
    def at(self) -> str:
        return "at_ms" if self.tier == RAW else "at_s"

    @property
    def unit(self) -> int:
        """How many of its time units a second has."""
        return 1000 if self.tier == RAW else 1


_CHUNK_S = {RAW: 3600, MINUTE: 86_400, TEN_MINUTES: 10 * 86_400, HOUR: 60 * 86_400}
_TABLES = [
    _Table(f"{name}{'' if tier == RAW else '_' + tier}", key, tier, chunk_s)
    for tier, chunk_s in _CHUNK_S.items()
    for name, key in (("sample", "machine_id"), ("gpu_sample", "gpu_id"))
]
_COARSER = dict(pairwise(TIERS))
_FINER = {coarser: finer for finer, coarser in pairwise(TIERS)}


def _roll_statement(tier: str, samples: str, key: str, metrics: Iterable[Metric]) -> str:
    """Makes one bucket of a tier anew: of `:machine`, from `:at` to before `:end`."""
    names = [metric.column for metric in metrics]
    columns = ", ".join(f"{name}_{part}" for name in names for part in ("n", "sum", "min", "max"))
    if _FINER[tier] == RAW:
        finer, at, unit = samples, "at_ms", 1000
        fold = "count({0}), sum({0}), min({0}), max({0})"
        folds = ", ".join(fold.format(name) for name in names)
    else:
        finer, at, unit = f"{samples}_{_FINER[tier]}", "at_s", 1
        folds = ", ".join(
            f"sum({name}_n), sum({name}_sum), min({name}_min), max({name}_max)" for name in names
        )
    source = f"{finer} WHERE machine_id = :machine"
    if key == "gpu_id":
        source = f"gpu CROSS JOIN {finer} ON gpu_id = gpu.id WHERE gpu.machine_id = :machine"
    return (
        f"INSERT OR REPLACE INTO {samples}_{tier} ({key}, at_s, {columns}) SELECT {key}, :at, {folds}"
        f" FROM {source} AND {at} >= :at * {unit} AND {at} < :end * {unit} GROUP BY {key}"
    )


_ROLL = {
    tier: (
        _roll_statement(tier, "sample", "machine_id", MACHINE_METRICS),
        _roll_statement(tier, "gpu_sample", "gpu_id", GPU_METRICS),
    )
    for tier in TIER_STEPS_S
}
_HAPPENINGS_AT_ONCE = 1000
_TRANSITIONS = ", ".join(f"'{type_}'" for type_ in (*Status, "machine_removed"))
_PRUNE_HAPPENINGS = {
    # Of each machine the latest of its transitions stays, which says what it is now.
    "event": "at_ms < :floor AND EXISTS (SELECT 1 FROM event AS later WHERE later.machine_id = old.machine_id"
    f" AND later.at_ms > old.at_ms AND later.type IN ({_TRANSITIONS}))",
    "model_span": "last_seen_at_ms < :floor",
    "poll_span": "ended_at_ms < :floor AND id < (SELECT max(id) FROM poll_span)",
}
"""Which rows of each table are too old; SQLite's DELETE has no LIMIT."""
_DUE = "SELECT at_s, machine_id FROM rollup_due WHERE tier = ? AND at_s <= ? LIMIT 20"
_DONE = "DELETE FROM rollup_due WHERE tier = ? AND at_s = ? AND machine_id = ?"


class Rollups:
    """Works on the writing connection; used by the one thread that writes."""

    def __init__(self, connection: sqlite3.Connection, retention: Retention) -> None:
        self._connection = connection
        self._kept_s = retention.by_tier
        self._marked: dict[int, int] = {}
        self._to_prune: deque[tuple[_Table, int]] = deque()
        self._pruned_at = float("-inf")
        self._clock_s: float | None = None

    def mark(self, machine: int, at_ms: int) -> None:
        """Note, in the transaction of the sample, that its minute is due."""
        minute = at_ms // 60_000 * 60
        if self._marked.get(machine) != minute:
            self._mark(MINUTE, minute, machine)
            self._marked[machine] = minute

    def forget(self) -> None:
        """Forget what was noted in a transaction that failed."""
        self._marked.clear()
        self._clock_s = None

    def step(self, now: float, elapsed_s: float) -> bool:
        """Work for some 20 ms in one transaction; whether there is more to do.

        `now` is the wall clock in epoch seconds, `elapsed_s` the time that has really passed since the step
        before.
        """
        until = time.monotonic() + STEP_S
        try:
            with transaction(self._connection):
                clock_s = self._age(now, elapsed_s)
                for _ in self._work(now, clock_s):
                    if time.monotonic() > until:
                        return True
        except BaseException:
            self.forget()
            raise
        return self._vacuum()

    def _work(self, now: float, clock_s: float) -> Iterator[None]:
        for tier in TIER_STEPS_S:
            yield from self._roll_all(tier, now)
        if not self._to_prune and abs(clock_s - self._pruned_at) >= PRUNE_EVERY_S:
            self._pruned_at = clock_s
            for table in _TABLES:
                keys = self._connection.execute(f"SELECT id FROM {table.key.removesuffix('_id')}")
                self._to_prune.extend((table, key) for (key,) in keys)
            yield from self._prune_happenings(self._floor_s(HOUR, clock_s) * 1000)
        # Once a step, not for each machine: to ask what is due costs as much as all else here.
        floors_s = {tier: self._floor_s(tier, clock_s) for tier in _CHUNK_S} if self._to_prune else {}
        while self._to_prune:
            table, key = self._to_prune[0]
            if self._prune(table, key, floors_s[table.tier]):
                self._to_prune.popleft()
            yield

    def _roll_all(self, tier: str, now: float) -> Iterator[None]:
        step_s = TIER_STEPS_S[tier]
        deleted_until = self._retention(_FINER[tier])
        while due := self._connection.execute(_DUE, (step_s, now - step_s)).fetchall():
            for at_s, machine in due:
                if at_s >= deleted_until:  # else what it was made from is gone, and it stays as it was
                    self._roll(tier, at_s, machine)
                self._connection.execute(_DONE, (step_s, at_s, machine))
                yield

    def _roll(self, tier: str, at_s: int, machine: int) -> None:
        bucket = {"machine": machine, "at": at_s, "end": at_s + TIER_STEPS_S[tier]}
        for statement in _ROLL[tier]:
            self._connection.execute(statement, bucket)
        if coarser := _COARSER.get(tier):
            self._mark(coarser, at_s, machine)
        if tier == MINUTE and self._marked.get(machine) == at_s:  # a sample that comes late must mark it anew
            del self._marked[machine]

    def _mark(self, tier: str, at_s: int, machine: int) -> None:
        """Note that the bucket of `tier` in which `at_s` lies is due."""
        step_s = TIER_STEPS_S[tier]
        self._connection.execute(
            "INSERT OR IGNORE INTO rollup_due VALUES (?, ?, ?)", (step_s, at_s // step_s * step_s, machine)
        )

    def _age(self, now: float, elapsed_s: float) -> float:
        """The clock that ages samples: it follows the wall clock, but never in a leap forward."""
        kept_s = self._retention("clock")
        before = self._clock_s or kept_s
        self._clock_s = clock_s = min(now, before + CATCH_UP * elapsed_s) if before else now
        if int(clock_s) != kept_s:
            self._set_retention("clock", int(clock_s))
        return clock_s

    def _prune(self, table: _Table, key: int, floor_s: int) -> bool:
        """Delete one chunk of what is before `floor_s`; whether all of it is gone."""
        (oldest,) = self._connection.execute(
            f"SELECT min({table.at}) FROM {table.name} WHERE {table.key} = ?", (key,)
        ).fetchone()
        if oldest is None or oldest >= floor_s * table.unit:
            return True
        end = min(floor_s, oldest // table.unit + table.chunk_s)
        self._connection.execute(
            f"DELETE FROM {table.name} WHERE {table.key} = ? AND {table.at} < ?", (key, end * table.unit)
        )
        if floor_s > self._retention(table.tier):
            self._set_retention(table.tier, floor_s)
        return bool(end == floor_s)

    def _prune_happenings(self, floor_ms: int) -> Iterator[None]:
        """Delete what happened, and ended, before the oldest samples that are kept."""
        for table, is_old in _PRUNE_HAPPENINGS.items():
            some = f"SELECT id FROM {table} AS old WHERE {is_old} LIMIT {_HAPPENINGS_AT_ONCE}"
            sql = f"DELETE FROM {table} WHERE id IN ({some})"
            while self._connection.execute(sql, {"floor": floor_ms}).rowcount:
                yield

    def _floor_s(self, tier: str, clock_s: float) -> int:
        """Before this all is too old, and rolled up; whole hours, so that no bucket is cut."""
        floor_s = int(clock_s - self._kept_s[tier]) // 3600 * 3600
        coarser = _COARSER.get(tier)
        if coarser is None:
            return floor_s
        (due,) = self._connection.execute(
            "SELECT min(at_s) FROM rollup_due WHERE tier <= ?", (TIER_STEPS_S[coarser],)
        ).fetchone()
        return floor_s if due is None else min(floor_s, due // 3600 * 3600)

    def _retention(self, tier: str) -> int:
        row = self._connection.execute("SELECT at_s FROM retention WHERE tier = ?", (tier,)).fetchone()
        return int(row[0]) if row else 0

    def _set_retention(self, tier: str, at_s: int) -> None:
        self._connection.execute("INSERT OR REPLACE INTO retention VALUES (?, ?)", (tier, at_s))

    def _vacuum(self) -> bool:
        """Give a little of the freed space back; pages that are soon used again are left."""
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (all_pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        if free < max(_VACUUM_FROM_PAGES, all_pages // 10):
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return True
