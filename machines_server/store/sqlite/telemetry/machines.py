"""The machines in the database: all that were ever declared, with the last good version of each file."""

import json
import sqlite3
from typing import Any

import orjson

from machines_server.core.machine import Machine, Registry
from machines_server.core.past.events import Event, changed_keys
from machines_server.store.sql.events import EventTable, to_ms

_ADD_MACHINE = """
INSERT INTO machine (name, file, declared, added_at_ms) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    name = excluded.name, file = excluded.file, declared = excluded.declared, removed_at_ms = NULL
RETURNING id"""


class MachineRows:
    """Follows the registry: knows the ids of machines, and writes events when their files change."""

    def __init__(self, connection: sqlite3.Connection, events: EventTable) -> None:
        self._connection, self._events = connection, events
        self._ids: dict[str, int] = {}

    def read_back(self) -> None:
        """Read the ids from the database."""
        rows = self._connection.execute("SELECT id, name FROM machine WHERE removed_at_ms IS NULL")
        self._ids = {name.casefold(): number for number, name in rows}

    def id(self, name: str) -> int | None:
        """The id of a machine, or None if its file was removed."""
        return self._ids.get(name.casefold())

    def set_all(self, registry: Registry) -> list[int]:
        """Write a registry; returns the ids of the machines that were removed."""
        for machine in registry:
            self._set(machine, registry.loaded_at)
        missing = [name for name in self._ids if registry.get(name) is None] if registry.is_whole else []
        removed = [self._ids.pop(name) for name in missing]
        for machine_id in removed:
            row = (to_ms(registry.loaded_at), machine_id)
            self._connection.execute("UPDATE machine SET removed_at_ms = ? WHERE id = ?", row)
            self._connection.execute("DELETE FROM latest WHERE machine_id = ?", (machine_id,))
            self._connection.execute("DELETE FROM library WHERE machine_id = ?", (machine_id,))
            self._events.add(machine_id, Event(registry.loaded_at, "machine_removed"))
        return removed

    def _set(self, machine: Machine, at: float) -> None:
        texts = (f"{orjson.dumps(key).decode()}: {value}" for key, value in machine.declared_json.items())
        declared = f"{{{', '.join(texts)}}}"
        before = self._connection.execute(
            "SELECT id, file, declared, removed_at_ms FROM machine WHERE name = ?", (machine.name,)
        ).fetchone()
        if before and before[1:] == (machine.file, declared, None):
            return
        row = (machine.name, machine.file, declared, to_ms(at))
        number = self._connection.execute(_ADD_MACHINE, row).fetchone()[0]
        self._ids[machine.name.casefold()] = number
        if before is None or before[3] is not None:
            self._events.add(number, Event(at, "machine_added", {"file": machine.file}))
        elif keys := changed_keys(_declared(before[2]), machine.declared):
            detail = {"file": machine.file, "keys": keys}
            self._events.add(number, Event(at, "machine_changed", detail))


def _declared(text: str) -> dict[str, Any]:
    """The previous declaration; empty if it is damaged."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}
