"""Reads the past of a site.

Events, status and models come from PostgreSQL, measurements from a time-series engine.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Protocol

import orjson

from machines_server.core.past.rollup import Fold, merge
from machines_server.core.past.series import KnownGpu
from machines_server.errors import StoreError, TooMuchError
from machines_server.store.postgres.database import Connection, Database
from machines_server.store.values import (
    EventsPage,
    KnownMachine,
    Residency,
    SeriesKey,
    StatusChange,
    StoredEvent,
)

KEEP_FAULT_S = 60.0
"""How long a failure is reported if no later call succeeds, since there may be none."""
MAX_POLL_SPANS = 100_000
MAX_RESIDENCIES = 10_000
MAX_STATUS_CHANGES = 500_000
_DEADLINE_S = 30.0
_MAX_DETAIL_CHARACTERS = 8 * 2**20
_MACHINE_BY_KEY = "SELECT id, name FROM machine WHERE site = %s AND key = %s"
_GPUS_OF = "SELECT position, uuid, model FROM gpu WHERE machine_id = %s ORDER BY position, id"
_SPELLINGS = "SELECT key, names FROM machine WHERE site = %s AND key = ANY(%s)"
_WAS_DECLARED = "added_at_ms < %(to)s AND (removed_at_ms IS NULL OR removed_at_ms >= %(from)s)"
_DECLARED_NAMES = f"SELECT name FROM machine WHERE site = %(site)s AND {_WAS_DECLARED} ORDER BY name"
_STATUS_TYPES = "('online', 'degraded', 'offline', 'unknown', 'machine_removed')"
_STATUS_CHANGES = f"""
SELECT name, at_ms / 1000.0::double precision, type
FROM machine JOIN event ON machine_id = machine.id
WHERE site = %(site)s AND {{machines}} AND type IN {_STATUS_TYPES} AND at_ms < %(to)s AND at_ms >= coalesce(
    (SELECT at_ms FROM event AS earlier
     WHERE earlier.machine_id = machine.id AND type IN {_STATUS_TYPES} AND at_ms < %(from)s
     ORDER BY at_ms DESC LIMIT 1), %(from)s)
ORDER BY machine.id, at_ms, event.id LIMIT {MAX_STATUS_CHANGES + 1}"""
_SPANS = """
SELECT started_at_ms / 1000.0::double precision, ended_at_ms / 1000.0::double precision FROM poll_span
WHERE site = %s AND ended_at_ms >= %s AND started_at_ms < %s ORDER BY started_at_ms LIMIT %s"""
_EVENTS_OF_SITE = """
SELECT event.id, at_ms / 1000.0::double precision, name, type, detail
FROM event JOIN machine ON machine.id = machine_id
WHERE {conditions} ORDER BY {order} LIMIT %(limit)s"""
_NEWEST = "SELECT max(event.id) FROM event JOIN machine ON machine.id = machine_id WHERE site = %s"
_RESIDENT_UNTIL = """
coalesce(
    (SELECT resident_ms + stays * (%({0})s - at_ms) FROM residency
     WHERE holding_id = recent.id AND at_ms <= %({0})s ORDER BY at_ms DESC LIMIT 1),
    (SELECT resident_ms FROM residency WHERE holding_id = recent.id ORDER BY at_ms LIMIT 1), 0)"""
_RESIDENCY = f"""
WITH recent AS (
    SELECT holding.* FROM holding JOIN machine ON machine.id = machine_id WHERE site = %(site)s
    ORDER BY last_seen_at_ms DESC LIMIT %(limit)s),
stay AS (
    SELECT model_span.machine_id, model, first_seen_at_ms AS began,
           coalesce(answered_at_ms, first_seen_at_ms) AS ended
    FROM model_span JOIN machine ON machine.id = model_span.machine_id
    LEFT JOIN latest ON latest.shard_id = machine.shard_id AND latest.machine_id = machine.id
        AND models IS NOT NULL
    WHERE last_seen_at_ms IS NULL AND site = %(site)s),
held AS (
    SELECT machine_id, model, last_seen_at_ms AS ended,
        {_RESIDENT_UNTIL.format("to")} - {_RESIDENT_UNTIL.format("from")} AS resident_ms FROM recent
    UNION ALL
    SELECT machine_id, model, ended, greatest(0, least(ended, %(to)s) - greatest(began, %(from)s)) FROM stay)
SELECT name, model, max(ended) / 1000.0::double precision, sum(resident_ms)::double precision / 1000
FROM held JOIN machine ON machine.id = machine_id GROUP BY machine_id, name, model"""


class SeriesReader(Protocol):
    """Reads measurements, as `Past.series` does."""

    def series(
        self, wanted: Sequence[SeriesKey], from_s: int, to_s: int, step_s: int
    ) -> list[list[tuple[int, Fold]]]:
        """The buckets of each key that have values."""


class PostgresPast:
    """Implements Past for a site; times are by the database's clock."""

    def __init__(self, database: Database, site: str, measurements: SeriesReader) -> None:
        self._database, self._site, self._measurements = database, site, measurements
        self._failed_at, self._fault = float("-inf"), ""

    def fault(self) -> str | None:
        """Why the database failed the last call, if it did so within KEEP_FAULT_S.

        Failures of the history engine do not count: all servers share it, and only the past depends on it.
        """
        return self._fault or None if time.monotonic() - self._failed_at < KEEP_FAULT_S else None

    def machine(self, name: str) -> KnownMachine | None:
        """A machine by its name, removed ones included."""
        with self._reading() as connection:
            row = connection.execute(_MACHINE_BY_KEY, (self._site, name.casefold())).fetchone()
            if row is None:
                return None
            gpus = connection.execute(_GPUS_OF, (row[0],)).fetchall()
        return KnownMachine(row[1], [KnownGpu(*gpu) for gpu in gpus])

    def machine_names(self, from_s: float, to_s: float) -> list[str]:
        """The machines that were declared at some time in the range, sorted by name."""
        with self._reading() as connection:
            return sorted(name for (name,) in connection.execute(_DECLARED_NAMES, self._range(from_s, to_s)))

    def series(
        self, wanted: Sequence[SeriesKey], from_s: int, to_s: int, step_s: int
    ) -> list[list[tuple[int, Fold]]]:
        """The buckets of each key that have values; series have the machine's name as spelled at the time."""
        keys = list({key.machine.casefold() for key in wanted})
        with self._reading() as connection:
            names: dict[str, list[str]] = dict(connection.execute(_SPELLINGS, (self._site, keys)).fetchall())
        spelled = [
            [key._replace(machine=name) for name in names.get(key.machine.casefold(), ())] for key in wanted
        ]
        found = iter(self._measurements.series([*chain.from_iterable(spelled)], from_s, to_s, step_s))
        return [_merged([next(found) for _ in some]) for some in spelled]

    def events(
        self,
        machines: Sequence[str],
        types: Sequence[str],
        from_s: float,
        to_s: float,
        limit: int,
        *,
        after: int | None = None,
        before: int | None = None,
    ) -> EventsPage:
        """Newest first by time, then by id; with `after`, those written next after that event."""
        values = {**self._range(from_s, to_s), "limit": limit + 1, "after": after, "before": before}
        conditions = ["site = %(site)s", "at_ms >= %(from)s", "at_ms < %(to)s"]
        if machines:
            conditions.append("key = ANY(%(machines)s)")
            values["machines"] = [name.casefold() for name in machines]
        if types:
            conditions.append("type = ANY(%(types)s)")
            values["types"] = list(types)
        with self._reading() as connection:
            if before is not None:
                conditions.append(_following(connection, before, values))
            elif after is not None:
                conditions.append("event.id > %(after)s")
            order = "at_ms DESC, event.id DESC" if after is None else "event.id"
            statement = _EVENTS_OF_SITE.format(conditions=" AND ".join(conditions), order=order)
            rows = connection.execute(statement.encode(), values).fetchall()
            ((newest,),) = connection.execute(_NEWEST, (self._site,)).fetchall()
        if sum(len(row[4]) for row in rows[:limit]) > _MAX_DETAIL_CHARACTERS:
            raise TooMuchError(f"{limit} events are more than one answer may hold: use a lower limit.")
        events = [
            StoredEvent(number, at, name, type_, dict(orjson.loads(detail)))
            for number, at, name, type_, detail in rows[:limit]
        ]
        events.sort(key=lambda event: (event.at, event.id), reverse=True)
        return EventsPage(events, len(rows) > limit, newest)

    def statuses(self, machine: str | None, from_s: float, to_s: float) -> Iterator[StatusChange]:
        """Each machine's changes of status, oldest first, beginning with the last one before `from_s`."""
        statement = _STATUS_CHANGES.format(machines=_WAS_DECLARED if machine is None else "key = %(key)s")
        values = {**self._range(from_s, to_s), "key": (machine or "").casefold()}
        with self._reading() as connection:
            rows = connection.execute(statement.encode(), values).fetchall()
        if len(rows) > MAX_STATUS_CHANGES:
            raise TooMuchError(
                f"There were over {MAX_STATUS_CHANGES} changes of status: ask for a shorter span."
            )
        return (StatusChange(*row) for row in rows)

    def poll_spans(self, from_s: float, to_s: float) -> list[tuple[float, float]]:
        """The periods in which some poller polled without a break, oldest first."""
        values = self._site, round(from_s * 1000), round(to_s * 1000), MAX_POLL_SPANS + 1
        with self._reading() as connection:
            rows = connection.execute(_SPANS, values).fetchall()
        if len(rows) > MAX_POLL_SPANS:
            raise TooMuchError(
                f"Polling was interrupted over {MAX_POLL_SPANS} times in that span: ask for a shorter one."
            )
        spans: list[tuple[float, float]] = []
        for began, ended in rows:
            if spans and began <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(ended, spans[-1][1])
            else:
                spans.append((began, ended))
        return spans

    def residency(self, from_s: float, to_s: float) -> list[Residency]:
        """The models in memory now, and the MAX_RESIDENCIES that were in memory most recently."""
        values = {**self._range(from_s, to_s), "limit": MAX_RESIDENCIES}
        with self._reading() as connection:
            return [Residency(*row) for row in connection.execute(_RESIDENCY.encode(), values)]

    def close(self) -> None:
        """Close nothing: connections belong to the database."""

    def _range(self, from_s: float, to_s: float) -> dict[str, Any]:
        return {"from": round(from_s * 1000), "to": round(to_s * 1000), "site": self._site}

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._noting_faults(), self._database.transaction(_DEADLINE_S) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            self._failed_at, self._fault = time.monotonic(), str(error)
            raise
        self._fault = ""


def _merged(series: Sequence[list[tuple[int, Fold]]]) -> list[tuple[int, Fold]]:
    """The merged buckets of several series of one machine."""
    if len(series) == 1:
        return series[0]
    folds: dict[int, list[Fold]] = {}
    for at, fold in chain.from_iterable(series):
        folds.setdefault(at, []).append(fold)
    return [(at, merge(folds[at])) for at in sorted(folds)]


def _following(connection: Connection, event: int, values: dict[str, Any]) -> str:
    """The condition for the events that follow one in newest-first order; shortens the span.

    If that event was deleted, its id alone says which ones were written earlier.
    """
    row = connection.execute("SELECT at_ms FROM event WHERE id = %s", (event,)).fetchone()
    if row is None:
        return "event.id < %(before)s"
    values["at"] = row[0]
    return "(at_ms < %(at)s OR (at_ms = %(at)s AND event.id < %(before)s))"
