"""Reads the past from `telemetry.db`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

from machines_server.core.past.rollup import Fold
from machines_server.core.past.series import KnownGpu
from machines_server.core.times import checked_time
from machines_server.errors import StoreError, TooMuchError
from machines_server.store.sqlite.telemetry.event_pages import read_events
from machines_server.store.sqlite.telemetry.read_pool import MAX_INSTRUCTIONS, ReadPool
from machines_server.store.sqlite.telemetry.residency import READ_RESIDENCY
from machines_server.store.sqlite.telemetry.series import read_series
from machines_server.store.values import EventsPage, KnownMachine, Residency, SeriesKey, StatusChange

KEEP_FAULT_S = 60.0
"""How long a failure is reported if no later call succeeds, since there may be none."""
MAX_POLL_SPANS = 100_000
MAX_RESIDENCIES = 10_000
MAX_STATUS_CHANGES = 500_000
"""Limits on all machines together; adding these up takes a second or two."""

_MACHINE_ID = "SELECT id FROM machine WHERE name = ?"
_IS_DECLARED = "added_at_ms < :to AND (removed_at_ms IS NULL OR removed_at_ms >= :from)"
_STATUS_TYPES = "('online', 'degraded', 'offline', 'unknown', 'machine_removed')"
_SELECT_STATUSES = f"""
SELECT name, at_ms / 1000.0, type
FROM machine CROSS JOIN event INDEXED BY event_status ON machine_id = machine.id
WHERE {{machines}} AND type IN {_STATUS_TYPES} AND at_ms < :to AND at_ms >= coalesce(
    (SELECT at_ms FROM event AS earlier
     WHERE earlier.machine_id = machine.id AND type IN {_STATUS_TYPES} AND at_ms < :from
     ORDER BY at_ms DESC LIMIT 1), :from)
ORDER BY machine.id, at_ms, event.id LIMIT {MAX_STATUS_CHANGES + 1}"""


class PastReader:
    """Reads the past on its own connections; implements Past."""

    def __init__(self, path: Path, max_instructions: int = MAX_INSTRUCTIONS) -> None:
        self._pool = ReadPool(path, max_instructions)
        self._failed_at, self._fault = float("-inf"), ""

    def fault(self) -> str | None:
        """Why the last call failed, if it did so within KEEP_FAULT_S."""
        return self._fault or None if time.monotonic() - self._failed_at < KEEP_FAULT_S else None

    def machine(self, name: str) -> KnownMachine | None:
        """A machine by its name, removed ones included."""
        with self._reading() as connection:
            row = connection.execute("SELECT id, name FROM machine WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            gpus = connection.execute(
                "SELECT position, uuid, model FROM gpu WHERE machine_id = ? ORDER BY position, id",
                (row[0],),
            ).fetchall()
        return KnownMachine(row[1], [KnownGpu(*gpu) for gpu in gpus])

    def machine_names(self, from_s: float, to_s: float) -> list[str]:
        """The machines that were declared at some time in the range, sorted by name."""
        with self._reading() as connection:
            sql = f"SELECT name FROM machine WHERE {_IS_DECLARED} ORDER BY name"
            return [name for (name,) in connection.execute(sql, _range_ms(from_s, to_s))]

    def series(
        self, wanted: Sequence[SeriesKey], from_s: int, to_s: int, step_s: int
    ) -> list[list[tuple[int, Fold]]]:
        """The buckets of each key that have values; `from_s` and `to_s` are multiples of `step_s`."""
        found: list[list[tuple[int, Fold]]] = [[] for _ in wanted]
        places: dict[str, list[int]] = {}
        for place, key in enumerate(wanted):
            places.setdefault(key.machine, []).append(place)
        with self._reading() as connection:
            for machine, here in places.items():
                row = connection.execute(_MACHINE_ID, (machine,)).fetchone()
                if row is None:
                    continue
                gpus = dict(connection.execute("SELECT uuid, id FROM gpu WHERE machine_id = ?", row))
                keys = [wanted[place] for place in here]
                series = read_series(connection, row[0], gpus, keys, from_s, to_s, step_s)
                for place, points in zip(here, series, strict=True):
                    found[place] = points
        return found

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
        span_ms = round(from_s * 1000), round(to_s * 1000)
        with self._reading() as connection:
            return read_events(connection, machines, types, span_ms, limit, after, before)

    def statuses(self, machine: str | None, from_s: float, to_s: float) -> Iterator[StatusChange]:
        """Each machine's changes of status, oldest first, beginning with the last one before `from_s`."""
        sql = _SELECT_STATUSES.format(machines=_IS_DECLARED if machine is None else "name = :machine")
        values = {**_range_ms(from_s, to_s), "machine": machine}
        with self._reading() as connection:
            for number, row in enumerate(connection.execute(sql, values)):
                if number == MAX_STATUS_CHANGES:
                    raise TooMuchError(
                        f"There were over {MAX_STATUS_CHANGES} changes of status: ask for a shorter span."
                    )
                yield StatusChange(*row)

    def poll_spans(self, from_s: float, to_s: float) -> list[tuple[float, float]]:
        """The periods of uninterrupted polling, oldest first."""
        with self._reading() as connection:
            spans = connection.execute(
                "SELECT started_at_ms / 1000.0, ended_at_ms / 1000.0 FROM poll_span"
                " WHERE ended_at_ms >= ? AND started_at_ms < ? ORDER BY id LIMIT ?",
                (round(from_s * 1000), round(to_s * 1000), MAX_POLL_SPANS + 1),
            ).fetchall()
        if len(spans) > MAX_POLL_SPANS:
            raise TooMuchError(
                f"Polling was interrupted over {MAX_POLL_SPANS} times in that span: ask for a shorter one."
            )
        return spans

    def residency(self, from_s: float, to_s: float) -> list[Residency]:
        """The models in memory now, and the MAX_RESIDENCIES that were in memory most recently."""
        values = {"from": round(from_s * 1000), "to": round(to_s * 1000), "limit": MAX_RESIDENCIES}
        with self._reading() as connection:
            rows = connection.execute(READ_RESIDENCY, values)
            return [
                Residency(name, model, checked_time(at), float(span_s)) for name, model, at, span_s in rows
            ]

    def close(self) -> None:
        """Close the idle connections; the next call opens another."""
        self._pool.close()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._pool.transaction() as connection:
                yield connection
        except StoreError as error:
            self._failed_at, self._fault = time.monotonic(), str(error)
            raise
        self._fault = ""


def _range_ms(from_s: float, to_s: float) -> dict[str, int]:
    return {"from": round(from_s * 1000), "to": round(to_s * 1000)}
