"""Reads the `telemetry.db` to copy, as of one moment."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

from machines_server.core.past.metrics import Metric
from machines_server.core.past.rollup import HOUR, MINUTE, RAW, TEN_MINUTES, TIER_STEPS_S, TIERS
from machines_server.errors import MigrationError, StoreError
from machines_server.store.sqlite.connection import open_reader
from machines_server.store.sqlite.damage import find_damage
from machines_server.store.sqlite.failures import store_errors
from machines_server.store.sqlite.migrate import pending

SLICE_S = 600
"""How much of the past is copied at a time, for all machines; of hourly rollups, an hour."""
_CACHE_KIB, _HOUR_TIER_S = 16_384, TIER_STEPS_S[HOUR]
_FIRST_MIGRATION = "SELECT applied_at FROM schema_migrations ORDER BY version LIMIT 1"
_FIRST_MACHINE = "SELECT lower(name), added_at_ms FROM machine ORDER BY id LIMIT 1"


class Card(NamedTuple):
    """A GPU of the source: its id there, and that of its machine."""

    id: int
    machine: int
    uuid: str


class Slice(NamedTuple):
    """A part of the past of all machines, from the tier that is complete there; times in epoch ms."""

    tier: str
    from_ms: int
    to_ms: int


class Source:
    """One snapshot of a database, for one thread; opened by `open_source`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        floors: dict[str, int] = dict(connection.execute("SELECT tier, at_s FROM retention").fetchall())
        if TEN_MINUTES not in floors:
            floors[TEN_MINUTES] = self._first_ten_minutes_s(floors.get(MINUTE, 0))
        self._floors_ms = {tier: 1000 * floors.get(tier, 0) for tier in TIERS}

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return self._connection.execute(statement, values).fetchall()

    def identity(self) -> str:
        """Identifies this database among those of other servers, whatever is added to it or deleted."""
        first = *self.rows(_FIRST_MIGRATION), *self.rows(_FIRST_MACHINE)
        return hashlib.sha256(repr(first).encode()).hexdigest()[:32]

    def cards(self) -> list[Card]:
        """All GPUs."""
        return [Card(*row) for row in self.rows("SELECT id, machine_id, uuid FROM gpu ORDER BY id")]

    def bounds_ms(self) -> tuple[int, int] | None:
        """When the first measurement was made, and 1 ms after the last one; None if there are none."""
        firsts, lasts = list[int](), {tier: list[int]() for tier in TIERS}
        for tier in TIERS:
            table, at, unit = _table("sample", tier)
            of_machine = f"FROM {table} WHERE machine_id = machine.id"
            sql = f"SELECT (SELECT min({at}) {of_machine}), (SELECT max({at}) {of_machine}) FROM machine"
            for first, last in self.rows(sql):
                if first is not None:
                    firsts.append(first * unit)
                    lasts[tier].append(last * unit + (1 if tier == RAW else 1000 * TIER_STEPS_S[tier]))
        ends = (max(found) for found in lasts.values() if found)
        return (min(firsts), next(ends)) if firsts else None

    def counts(self) -> Mapping[str, int]:
        """The numbers of rows in the tables that grow with time, besides measurements."""
        tables = {"stays": "model_span", "events": "event", "polling": "poll_span"}
        return {part: self.rows(f"SELECT count(*) FROM {table}")[0][0] for part, table in tables.items()}

    def slices(self, from_ms: int, to_ms: int) -> Iterator[Slice]:
        """The slices of a range that have measurements, oldest first.

        None has two tiers: deletions end at full hours.
        """
        at_ms = from_ms
        while at_ms < to_ms:
            tier, tier_end_ms = self._tier_at(at_ms)
            first_ms = self._first_from(tier, at_ms, min(tier_end_ms, to_ms))
            if first_ms is None:
                at_ms = tier_end_ms
                continue
            length_ms = 1000 * (_HOUR_TIER_S if tier == HOUR else SLICE_S)
            end_ms = min(first_ms // length_ms * length_ms + length_ms, to_ms)
            yield Slice(tier, max(at_ms, first_ms // length_ms * length_ms), end_ms)
            at_ms = end_ms

    def measured(
        self, metrics: Sequence[Metric], key: int, part: Slice, columns: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        """The rows of a machine or a GPU within a slice, oldest first: the time in ms, then the columns."""
        name, of = ("gpu_sample", "gpu_id") if metrics[0].is_gpu else ("sample", "machine_id")
        table, at, unit = _table(name, part.tier)
        return self.rows(
            f"SELECT {at} * {unit}, {', '.join(columns)} FROM {table}"
            f" WHERE {of} = ? AND {at} >= ? AND {at} < ? ORDER BY {at}",
            key,
            -(-part.from_ms // unit),
            -(-part.to_ms // unit),
        )

    def _first_ten_minutes_s(self, before_s: int) -> int:
        """The hour from which on there are ten-minute rollups, `before_s` if there are none.

        A version that did not make them has left only hourly ones.
        """
        ((first,),) = self.rows("SELECT min(at_s) FROM sample_10m")
        return before_s if first is None else int(first) // _HOUR_TIER_S * _HOUR_TIER_S

    def raw_from_ms(self) -> int:
        """The time from which on all samples are kept."""
        return self._floors_ms[RAW]

    def _tier_at(self, at_ms: int) -> tuple[str, int]:
        """The finest tier that is complete at a time, and until when it is the finest."""
        end_ms = 2**62
        for tier in TIERS:
            if at_ms >= self._floors_ms[tier] or tier == TIERS[-1]:
                return tier, end_ms
            end_ms = min(end_ms, self._floors_ms[tier])
        raise AssertionError(at_ms)  # there is always a last tier

    def _first_from(self, tier: str, at_ms: int, end_ms: int) -> int | None:
        """The time of the first row in a range."""
        table, at, unit = _table("sample", tier)
        sql = (
            f"SELECT {at} FROM {table} WHERE machine_id = ? AND {at} >= ? AND {at} < ? ORDER BY {at} LIMIT 1"
        )
        bounds = -(-at_ms // unit), -(-end_ms // unit)
        found = [
            first * unit
            for (machine,) in self.rows("SELECT id FROM machine")
            for (first,) in self.rows(sql, machine, *bounds)
        ]
        return min(found, default=None)


def _table(name: str, tier: str) -> tuple[str, str, int]:
    """The table of a tier, its column of times, and their unit in ms."""
    return (name, "at_ms", 1) if tier == RAW else (f"{name}_{tier}", "at_s", 1000)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """A snapshot of a database, which is only read; raises StoreError if it cannot be copied."""
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    damage = find_damage(path)
    if damage is not None:
        raise StoreError(f"{damage}; copy a backup of it")
    missing = pending(path)
    if missing:
        raise MigrationError(
            f"{path} was written by an earlier version: run `machines-server migrate` on it first, with"
            " MACHINES_DATA_DIR set to its folder"
        )
    with store_errors(path):
        connection = open_reader(path)
        try:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("BEGIN")
            yield Source(connection)
        finally:
            connection.close()
