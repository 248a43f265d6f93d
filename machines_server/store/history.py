"""What the database says of the past; every question on a connection of its own, so that none waits."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from machines_server.core.metrics import Metric
from machines_server.core.rollup import HOUR, RAW, TIER_STEPS_S, Fold, coarsest_tier, merge, segments
from machines_server.store.connection import inode, may_stay_open, open_reader, translated

MAX_IDLE = 4
"""Connections kept for the next question: opening one costs as much as reading a day."""
CACHE_KIB = 4096
"""Of each connection; the minutes of one machine over a week take 2.5 MiB."""


@dataclass(frozen=True, slots=True)
class KnownMachine:
    """A machine that was declared at some time, and its GPUs as (id, index, uuid), ordered by index."""

    id: int
    name: str
    gpus: Sequence[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event, `at` in epoch seconds."""

    id: int
    at: float
    machine: str
    type: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Residency:
    """A model on a machine: when it was last seen there (epoch seconds), and how long it was in a range."""

    machine: str
    model: str
    last_seen: float
    resident_s: float


_RESIDENCY = """
WITH stay AS (
    SELECT name, model, first_seen_at_ms AS began,
           coalesce(last_seen_at_ms, answered_at_ms, first_seen_at_ms) AS ended
    FROM model_span JOIN machine ON machine.id = model_span.machine_id
    LEFT JOIN latest ON latest.machine_id = machine.id AND endpoint = 'ollama'
)
SELECT name, model, max(ended) / 1000.0, sum(max(0, min(ended, :to) - max(began, :from))) / 1000.0
FROM stay GROUP BY name, model"""


class HistoryReader:
    """Reads the past; raises StoreError when it cannot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[tuple[int | None, sqlite3.Connection]] = []

    def machine(self, name: str) -> KnownMachine | None:
        """A machine by its name, compared without case, removed ones included."""
        with self._reading() as connection:
            row = connection.execute("SELECT id, name FROM machine WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            gpus = connection.execute(
                "SELECT id, position, uuid FROM gpu WHERE machine_id = ? ORDER BY position, id", (row[0],)
            ).fetchall()
        return KnownMachine(row[0], row[1], gpus)

    def series(
        self, machine: int, wanted: Sequence[tuple[Metric, int]], from_s: int, to_s: int, step_s: int
    ) -> list[list[tuple[int, Fold]]]:
        """For each (metric, id of machine or GPU) the buckets that have values, from one moment's content.

        `from_s` and `to_s` are multiples of `step_s`.
        """
        found: list[list[tuple[int, Fold]]] = [[] for _ in wanted]
        tables: dict[tuple[bool, int], list[int]] = {}
        for place, (metric, key) in enumerate(wanted):
            tables.setdefault((metric.is_gpu, key), []).append(place)
        with self._reading() as connection:
            parts = segments(from_s, to_s, coarsest_tier(step_s), _due(connection, machine))
            for (_, key), places in tables.items():
                metrics = [wanted[place][0] for place in places]
                for at, *values in _buckets(connection, metrics, key, parts, step_s):
                    for number, place in enumerate(places):
                        if values[4 * number]:
                            _append(found[place], at, Fold(*values[4 * number : 4 * number + 4]))
        return found

    def events(
        self,
        machine: str | None,
        types: Sequence[str],
        from_s: float,
        to_s: float,
        limit: int,
        after: int | None = None,
    ) -> list[EventRow]:
        """Newest first; with `after`, the id of an event, those that came next after it."""
        sql = (
            "SELECT event.id, at_ms / 1000.0, name, type, detail FROM event"
            " JOIN machine ON machine.id = machine_id"
            " WHERE at_ms >= ? AND at_ms < ? AND event.id > ?"
        )
        values: list[Any] = [round(from_s * 1000), round(to_s * 1000), after or 0]
        if machine is not None:
            sql += " AND name = ?"
            values.append(machine)
        if types:
            sql += f" AND type IN ({', '.join('?' * len(types))})"
            values += types
        with self._reading() as connection:
            order = "at_ms DESC, event.id DESC" if after is None else "event.id"
            rows = connection.execute(f"{sql} ORDER BY {order} LIMIT ?", (*values, limit))
            found = [
                EventRow(number, at, name, type_, orjson.loads(detail))
                for number, at, name, type_, detail in rows
            ]
        return sorted(found, key=lambda event: (event.at, event.id), reverse=True)

    def statuses(self, machine: int, from_s: float, to_s: float) -> list[tuple[float, str]]:
        """When the machine took on which status, oldest first, beginning with the one before `from_s`."""
        types = ("online", "degraded", "offline", "unknown", "machine_removed")
        marks = ", ".join("?" * len(types))
        sql = f"SELECT at_ms / 1000.0, type FROM event WHERE machine_id = ? AND type IN ({marks}) AND at_ms"
        with self._reading() as connection:
            before = connection.execute(
                f"{sql} < ? ORDER BY at_ms DESC, id DESC LIMIT 1", (machine, *types, round(from_s * 1000))
            ).fetchall()
            within = connection.execute(
                f"{sql} >= ? AND at_ms < ? ORDER BY at_ms, id",
                (machine, *types, round(from_s * 1000), round(to_s * 1000)),
            ).fetchall()
        return before + within

    def poll_spans(self, from_s: float, to_s: float) -> list[tuple[float, float]]:
        """When somebody polled without a break; oldest first."""
        with self._reading() as connection:
            return connection.execute(
                "SELECT started_at_ms / 1000.0, ended_at_ms / 1000.0 FROM poll_span"
                " WHERE ended_at_ms >= ? AND started_at_ms < ? ORDER BY id",
                (round(from_s * 1000), round(to_s * 1000)),
            ).fetchall()

    def residency(self, from_s: float, to_s: float) -> list[Residency]:
        """For every model on every machine that ever held it: the last time, and how long in a range."""
        with self._reading() as connection:
            rows = connection.execute(_RESIDENCY, {"from": round(from_s * 1000), "to": round(to_s * 1000)})
            return [Residency(*row) for row in rows]

    def close(self) -> None:
        """Close the connections that nobody uses; the next question opens another."""
        while self._idle:
            self._idle.pop()[1].close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One moment's content."""
        with translated(self._path):
            file, connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            if len(self._idle) < MAX_IDLE and may_stay_open(self._path):
                self._idle.append((file, connection))
            else:
                connection.close()

    def _take(self) -> tuple[int | None, sqlite3.Connection]:
        file = inode(self._path)
        with suppress(IndexError):
            while True:
                opened, connection = self._idle.pop()
                if opened == file:
                    return file, connection
                connection.close()  # what it reads was moved away or deleted
        connection = open_reader(self._path)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return file, connection


def _due(connection: sqlite3.Connection, machine: int) -> dict[str, int]:
    """From when on rollups of the machine are still to be made, for each tier that has any."""
    first = "SELECT min(at_s) FROM rollup_due WHERE tier = ? AND machine_id = ?"
    found = {
        tier: connection.execute(first, (step_s, machine)).fetchone()[0]
        for tier, step_s in TIER_STEPS_S.items()
    }
    return {tier: at_s for tier, at_s in found.items() if at_s is not None}


def _append(points: list[tuple[int, Fold]], at: int, fold: Fold) -> None:
    """Add a part of a bucket, which comes after the others or belongs to the last one."""
    if points and points[-1][0] == at:
        fold = merge((points.pop()[1], fold))
    points.append((at, fold))


def _buckets(
    connection: sqlite3.Connection,
    metrics: Sequence[Metric],
    key: int,
    parts: Sequence[tuple[str, int, int]],
    step_s: int,
) -> Iterator[list[Any]]:
    """Each part of a bucket that one tier answers: its beginning, then n, sum, min, max of each metric."""
    for tier, from_s, to_s in parts:
        first = from_s // step_s * step_s
        bounds = {"key": key, "first": first, "from": from_s, "to": to_s, "step": step_s}
        (text,) = connection.execute(_statement(metrics, tier, step_s), bounds).fetchone()
        yield from orjson.loads(f"[{text}]")


def _statement(metrics: Sequence[Metric], tier: str, step_s: int) -> str:
    """All buckets in one text of JSON: each comes from a subquery, for GROUP BY would sort the rows.

    A subquery gives one value only; and one text is read faster than many rows.
    """
    table, key = ("gpu_sample", "gpu_id") if metrics[0].is_gpu else ("sample", "machine_id")
    # The bytes of more than an hour may not fit into 64 bits.
    add = "sum" if step_s <= TIER_STEPS_S[HOUR] else "total"
    if tier == RAW:
        fold, time, unit = "count({0}), %s({0}), min({0}), max({0})", "at_ms", 1000
    else:
        fold, time, unit = "sum({0}_n), %s({0}_sum), min({0}_min), max({0}_max)", "at_s", 1
        table = f"{table}_{tier}"
    folds = ", ".join((fold % add).format(metric.column) for metric in metrics)
    return (
        "WITH RECURSIVE bucket (at) AS"
        " (VALUES (:first) UNION ALL SELECT at + :step FROM bucket WHERE at + :step < :to)"
        f" SELECT group_concat((SELECT json_array(at, {folds}) FROM {table} WHERE {key} = :key"
        f" AND {time} >= max(at, :from) * {unit} AND {time} < min(at + :step, :to) * {unit})) FROM bucket"
    )
