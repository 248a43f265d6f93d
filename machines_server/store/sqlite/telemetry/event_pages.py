"""Reading events page by page."""

from collections.abc import Sequence
from itertools import islice
from sqlite3 import Connection
from typing import Any

import orjson

from machines_server.errors import TooMuchError
from machines_server.store.values import EventsPage, StoredEvent

MAX_DETAIL_CHARACTERS = 8 * 2**20
"""The most characters in all events of one page together."""


def read_events(
    connection: Connection,
    machines: Sequence[str],
    types: Sequence[str],
    span_ms: tuple[int, int],
    limit: int,
    after: int | None,
    before: int | None,
) -> EventsPage:
    """At most `limit` events of a span, newest first; without machines or types, of all.

    They are the newest or, with `before`, those that follow that event. With `after`, they are the first
    ones written after that event. Both are ids.
    """
    if before is not None:
        condition, values, span_ms = _following(connection, before, span_ms)
    else:
        condition, values = ("event.id > ?", [after]) if after is not None else ("TRUE", [])
    # The unary + keeps SQLite from reading and sorting all events of the span instead of those after the id.
    plus, order = ("", "at_ms DESC, event.id DESC") if after is None else ("+", "event.id")
    conditions = [condition, f"{plus}at_ms >= ?", f"{plus}at_ms < ?"]
    values += span_ms
    for column, chosen in (("machine_id", _ids(connection, machines)), ("type", types or None)):
        if chosen is not None:
            conditions.append(f"{plus}{column} IN ({', '.join('?' * len(chosen))})")
            values += chosen
    rows = connection.execute(
        "SELECT event.id, at_ms / 1000.0, name, type, detail"
        " FROM event CROSS JOIN machine ON machine.id = machine_id"
        f" WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?",
        (*values, limit + 1),
    )
    events, characters = list[StoredEvent](), 0
    for number, at, name, type_, detail in islice(rows, limit):
        characters += len(detail)
        if characters > MAX_DETAIL_CHARACTERS:
            raise TooMuchError(f"{limit} events are more than one answer may hold: use a lower limit.")
        events.append(StoredEvent(number, at, name, type_, dict(orjson.loads(detail))))
    events.sort(key=lambda event: (event.at, event.id), reverse=True)
    is_truncated = next(rows, None) is not None
    (newest,) = connection.execute("SELECT max(id) FROM event").fetchone()
    return EventsPage(events, is_truncated, newest)


def _following(
    connection: Connection, event: int, span_ms: tuple[int, int]
) -> tuple[str, list[Any], tuple[int, int]]:
    """The condition, its values and the span for the events that follow one in newest-first order.

    If that event was deleted, its id alone says which ones were written earlier.
    """
    row = connection.execute("SELECT at_ms FROM event WHERE id = ?", (event,)).fetchone()
    if row is None:
        return "event.id < ?", [event], span_ms
    from_ms, to_ms = span_ms
    return "(at_ms < ? OR event.id < ?)", [*row, event], (from_ms, min(to_ms, row[0] + 1))


def _ids(connection: Connection, machines: Sequence[str]) -> list[int] | None:
    """The ids of machines; None for all."""
    if not machines:
        return None
    sql = "SELECT id FROM machine WHERE name IN (SELECT value FROM json_each(?))"
    return [number for (number,) in connection.execute(sql, (orjson.dumps(machines).decode(),))]
