"""Writes events."""

import sqlite3

from machines_server.core.past.events import Event
from machines_server.store.sql.events import event_row

_ADD_EVENT = "INSERT INTO event (at_ms, machine_id, type, detail) VALUES (?, ?, ?, ?)"


class SqliteEvents:
    """Implements EventTable."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, machine: int, event: Event) -> None:
        """Write an event of the machine with that id."""
        self._connection.execute(_ADD_EVENT, event_row(machine, event))
