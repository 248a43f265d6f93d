"""Writes events, in the transaction of the sample or registry in which they were seen."""

import sqlite3

import orjson

from machines_server.core.past.events import Event

_ADD_EVENT = "INSERT INTO event (at_ms, machine_id, type, detail) VALUES (?, ?, ?, ?)"


def add_event(connection: sqlite3.Connection, machine: int, event: Event) -> None:
    """Write an event of the machine with that id."""
    row = (to_ms(event.at), machine, event.type, orjson.dumps(event.detail).decode())
    connection.execute(_ADD_EVENT, row)


def to_ms(at: float) -> int:
    """Epoch seconds as milliseconds, which the database keeps."""
    return round(at * 1000)
