"""Writing what happened, in the transaction of what it was seen in."""

import sqlite3

import orjson

from machines_server.core.changes import Event

_ADD_EVENT = "INSERT INTO event (at_ms, machine_id, type, detail) VALUES (?, ?, ?, ?)"


def add_event(connection: sqlite3.Connection, machine: int, event: Event) -> None:
    """Write one event of the machine with that id."""
    row = (to_ms(event.at), machine, event.type, orjson.dumps(event.detail).decode())
    connection.execute(_ADD_EVENT, row)


def to_ms(at: float) -> int:
    """Epoch seconds as the database keeps them."""
    return round(at * 1000)
