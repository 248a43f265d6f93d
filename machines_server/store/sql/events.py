"""Writes events, in the transaction of the sample or registry in which they were seen."""

import orjson

from machines_server.core.past.events import Event
from machines_server.store.sql.rows import Rows

_ADD_EVENT = "INSERT INTO event (at_ms, machine_id, type, detail) VALUES (?, ?, ?, ?)"


def add_event(connection: Rows, machine: int, event: Event) -> None:
    """Write an event of the machine with that id."""
    row = (to_ms(event.at), machine, event.type, orjson.dumps(event.detail).decode())
    connection.execute(_ADD_EVENT, row)


def to_ms(at: float) -> int:
    """Epoch seconds as milliseconds, which a database keeps."""
    return round(at * 1000)
