"""Rollups and retention of `telemetry.db`, in steps that occupy the writer for about 20 ms each.

A sample marks its minute as due in the transaction that writes it. A rollup is computed from all samples of
its bucket, so computing it again changes nothing, and its mark is deleted in the same transaction. Thus late
samples and interrupted work need no special care.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS, Metric
from machines_server.core.past.rollup import HOUR, MINUTE, RAW, TEN_MINUTES, TIER_STEPS_S, TIERS
from machines_server.core.status import Status
from machines_server.store.sql.residency import forget_residency
from machines_server.store.sqlite.connection import transaction
from machines_server.store.sqlite.telemetry.residency import add_due
from machines_server.store.values import Retention

MAX_TURN_S = 0.02
"""How long the writer is occupied at a time."""
MAX_AGING_SPEED = 4.0
"""How many times faster than real time the clock that ages samples may run, so that a wall clock that jumps
forward does not empty the database."""
PRUNE_EVERY_S = 60
VACUUM_PAGES = 200
_VACUUM_FROM_PAGES = 2000


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of samples: its key, its tier, and how many seconds of it are deleted at once."""

    name: str
    key: str
    tier: str
    chunk_s: int

    @property
    def at(self) -> str:
        return "at_ms" if self.tier == RAW else "at_s"

    @property
    def unit(self) -> int:
        """How many of its time units make a second."""
        return 1000 if self.tier == RAW else 1


_CHUNK_S = {RAW: 3600, MINUTE: 86_400, TEN_MINUTES: 10 * 86_400, HOUR: 60 * 86_400}
_TABLES = [
    _Table(f"{name}{'' if tier == RAW else '_' + tier}", key, tier, chunk_s)
    for tier, chunk_s in _CHUNK_S.items()
    for name, key in (("sample", "machine_id"), ("gpu_sample", "gpu_id"))
]
_TABLES.append(_Table("endpoint_state", "machine_id", RAW, _CHUNK_S[RAW]))
_GPU_TABLES = [table for table in _TABLES if table.key == "gpu_id"]
_DROP_GPU = "DELETE FROM gpu WHERE id = ?" + "".join(
    f" AND NOT EXISTS (SELECT 1 FROM {table.name} WHERE gpu_id = gpu.id)" for table in _GPU_TABLES
)
"""Deletes a GPU without samples in any tier."""
MAX_MODEL_SIZES = 10_000
_PRUNE_MODEL_SIZES = """
DELETE FROM model_size WHERE seen_at_ms < max(:floor, coalesce(
    (SELECT seen_at_ms FROM model_size ORDER BY seen_at_ms DESC LIMIT 1 OFFSET :kept - 1), 0))"""
_COARSER = dict(pairwise(TIERS))
_FINER = {coarser: finer for finer, coarser in pairwise(TIERS)}


def _roll_statement(tier: str, samples: str, key: str, metrics: Iterable[Metric]) -> str:
    """SQL that computes a tier's bucket for `:machine`, from `:at` to before `:end`."""
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
_ROWS_AT_ONCE = 1000
_TRANSITION_TYPES = ", ".join(f"'{type_}'" for type_ in (*Status, "machine_removed"))
_OLD_ROWS = {
    # The latest transition of each machine is kept: it is the machine's current status.
    "event": "at_ms < :floor AND EXISTS (SELECT 1 FROM event AS later WHERE later.machine_id = old.machine_id"
    f" AND later.at_ms > old.at_ms AND later.type IN ({_TRANSITION_TYPES}))",
    "model_span": "last_seen_at_ms < :floor",
    "poll_span": "ended_at_ms < :floor AND id < (SELECT max(id) FROM poll_span)",
}
"""Which rows of each table are too old."""
_DUE_ROLLUPS = "SELECT at_s, machine_id FROM rollup_due WHERE tier = ? AND at_s <= ? LIMIT 20"
_DELETE_DUE_ROLLUP = "DELETE FROM rollup_due WHERE tier = ? AND at_s = ? AND machine_id = ?"


class Rollups:
    """Computes rollups and deletes old rows, on the connection of the writing thread."""

    def __init__(
        self, connection: sqlite3.Connection, retention: Retention, *, step_s: float = MAX_TURN_S
    ) -> None:
        """One call of `step` takes at most about `step_s`."""
        self._connection, self._step_s = connection, step_s
        self._kept_s = retention.by_tier
        self._marked: dict[int, int] = {}
        self._to_prune: deque[tuple[_Table, int]] = deque()
        self._pruned_at = float("-inf")
        self._pruned_to_s: dict[str, int] = {}
        self._clock_s: float | None = None
        self.gpus_gone = 0
        """Grows when GPUs are deleted, so that cached ids can be dropped."""

    def mark(self, machine: int, at_ms: int) -> None:
        """Mark the minute of a sample as due, in the transaction that writes the sample."""
        minute = at_ms // 60_000 * 60
        if self._marked.get(machine) != minute:
            self._mark(MINUTE, minute, machine)
            self._marked[machine] = minute

    def forget(self) -> None:
        """Forget what a failed transaction marked."""
        self._marked.clear()
        self._clock_s = None
        self._pruned_to_s = {}

    def step(self, now: float, elapsed_s: float) -> bool:
        """Work for about 20 ms in one transaction; returns whether there is more to do.

        `now` is the wall clock in epoch seconds, `elapsed_s` the real time since the last step.
        """
        until = time.monotonic() + self._step_s
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
            floors_s = self._floors_s(clock_s)
            floor_ms = floors_s[HOUR] * 1000
            self._connection.execute(_PRUNE_MODEL_SIZES, {"floor": floor_ms, "kept": MAX_MODEL_SIZES})
            if floors_s != self._pruned_to_s:  # they advance once an hour
                for table in _TABLES:
                    keys = self._connection.execute(f"SELECT id FROM {table.key.removesuffix('_id')}")
                    self._to_prune.extend((table, key) for (key,) in keys)
                yield from self._prune_rows(floor_ms)
                yield from forget_residency(self._connection, floor_ms)
                self._pruned_to_s = floors_s
        yield from add_due(self._connection)
        # Once a step, not for each machine: asking what is due costs as much as all other work.
        floors_s = self._floors_s(clock_s) if self._to_prune else {}
        while self._to_prune:
            table, key = self._to_prune[0]
            if self._prune(table, key, floors_s[table.tier]):
                self._to_prune.popleft()
                if table is _GPU_TABLES[-1]:
                    self.gpus_gone += self._connection.execute(_DROP_GPU, (key,)).rowcount
            yield

    def _roll_all(self, tier: str, now: float) -> Iterator[None]:
        step_s = TIER_STEPS_S[tier]
        deleted_until = self._retention(_FINER[tier])
        while due := self._connection.execute(_DUE_ROLLUPS, (step_s, now - step_s)).fetchall():
            for at_s, machine in due:
                if at_s >= deleted_until:  # otherwise its samples were deleted, and it is final
                    self._roll(tier, at_s, machine)
                self._connection.execute(_DELETE_DUE_ROLLUP, (step_s, at_s, machine))
                yield

    def _roll(self, tier: str, at_s: int, machine: int) -> None:
        bucket = {"machine": machine, "at": at_s, "end": at_s + TIER_STEPS_S[tier]}
        for statement in _ROLL[tier]:
            self._connection.execute(statement, bucket)
        if coarser := _COARSER.get(tier):
            self._mark(coarser, at_s, machine)
        if tier == MINUTE and self._marked.get(machine) == at_s:  # a late sample must mark it again
            del self._marked[machine]

    def _mark(self, tier: str, at_s: int, machine: int) -> None:
        """Mark the bucket of `tier` that holds `at_s` as due."""
        step_s = TIER_STEPS_S[tier]
        self._connection.execute(
            "INSERT OR IGNORE INTO rollup_due VALUES (?, ?, ?)", (step_s, at_s // step_s * step_s, machine)
        )

    def _age(self, now: float, elapsed_s: float) -> float:
        """Advance the clock that ages samples: it follows the wall clock without leaping forward."""
        kept_s = self._retention("clock")
        before = self._clock_s or kept_s
        self._clock_s = clock_s = min(now, before + MAX_AGING_SPEED * elapsed_s) if before else now
        if int(clock_s) != kept_s:
            self._set_retention("clock", int(clock_s))
        return clock_s

    def _prune(self, table: _Table, key: int, floor_s: int) -> bool:
        """Delete one chunk of rows before `floor_s`; returns whether none is left."""
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

    def _prune_rows(self, floor_ms: int) -> Iterator[None]:
        """Delete events and spans that ended before the oldest samples that are kept."""
        for table, is_old in _OLD_ROWS.items():
            batch = f"SELECT id FROM {table} AS old WHERE {is_old} LIMIT {_ROWS_AT_ONCE}"
            sql = f"DELETE FROM {table} WHERE id IN ({batch})"
            while self._connection.execute(sql, {"floor": floor_ms}).rowcount:
                yield

    def _floors_s(self, clock_s: float) -> dict[str, int]:
        return {tier: self._floor_s(tier, clock_s) for tier in _CHUNK_S}

    def _floor_s(self, tier: str, clock_s: float) -> int:
        """The time before which rows are too old and rolled up; a whole hour, so that no bucket is split."""
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
        """Return some free space to the disk; returns whether there may be more to return."""
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (all_pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        if free < max(_VACUUM_FROM_PAGES, all_pages // 10):
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return True
