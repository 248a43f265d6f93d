"""The machines of the shards that a poller holds, with the last good version of each file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from machines_server.core.machine import Machine, Registry
from machines_server.core.past.events import Event, changed_keys
from machines_server.core.shards import shard_of
from machines_server.store.postgres.database import Connection
from machines_server.store.sql.events import EventTable, to_ms

_KNOWN_MACHINES = """
SELECT key, machine.id, name, number, file, declared FROM machine JOIN shard ON shard.id = shard_id
WHERE machine.site = %s AND number = ANY(%s) AND removed_at_ms IS NULL"""
_SET_MACHINE = """
INSERT INTO machine (shard_id, site, key, name, names, file, declared, added_at_ms)
SELECT id, site, %(key)s, %(name)s, ARRAY[%(name)s], %(file)s, %(declared)s, %(at_ms)s
FROM shard WHERE site = %(site)s AND number = %(number)s
ON CONFLICT (site, key) DO UPDATE SET
    name = excluded.name, names = CASE
        WHEN excluded.name = ANY(machine.names) THEN machine.names ELSE machine.names || excluded.name END,
    file = excluded.file, declared = excluded.declared, removed_at_ms = NULL
RETURNING id"""
_REMOVE = (
    "UPDATE machine SET removed_at_ms = %(at_ms)s WHERE id = %(id)s",
    "DELETE FROM latest WHERE machine_id = %(id)s",
    "DELETE FROM library WHERE machine_id = %(id)s",
    "DELETE FROM host_service WHERE machine_id = %(id)s",
)


@dataclass(frozen=True, slots=True)
class KnownRow:
    """A declared machine: its id, the number of its shard, and its last good version."""

    id: int
    name: str
    shard: int
    file: str
    declared: str


class MachineRows:
    """Follows the registry: knows the ids of machines, and writes events when their files change."""

    def __init__(self, connection: Connection, site: str, events: EventTable) -> None:
        self._connection, self._site, self._events = connection, site, events
        self._known: dict[str, KnownRow] = {}
        self.changed: set[int] = set()
        """The shards of machines that were added, changed or removed."""

    def read_back(self, shards: Mapping[int, int]) -> None:
        """Read the machines of these shards."""
        rows = self._connection.execute(_KNOWN_MACHINES, (self._site, list(shards)))
        self.changed.clear()
        self._known = {key: KnownRow(*row) for key, *row in rows}

    def id(self, name: str) -> int | None:
        """The id of a machine, or None if its file was removed or others poll it."""
        known = self._known.get(name.casefold())
        return None if known is None else known.id

    def forget(self, shard: int) -> list[KnownRow]:
        """Forget the machines of a shard that others hold, and return them."""
        keys = [key for key, known in self._known.items() if known.shard == shard]
        return [self._known.pop(key) for key in keys]

    def set_all(self, registry: Registry) -> list[KnownRow]:
        """Write a registry; returns the machines that were removed."""
        self._set_changed(registry)
        missing = [key for key in self._known if registry.get(key) is None] if registry.is_whole else []
        gone = [self._known.pop(key) for key in missing]
        self.changed |= {known.shard for known in gone}
        for known in gone:
            for statement in _REMOVE:
                self._connection.execute(statement, {"at_ms": to_ms(registry.loaded_at), "id": known.id})
            self._events.add(known.id, Event(registry.loaded_at, "machine_removed"))
        return gone

    def _set_changed(self, registry: Registry) -> None:
        """Write the machines that are new or have changed, in one round trip."""
        changed = {
            machine.name.casefold(): (machine, declared)
            for machine in registry
            if not self._is_known(machine, declared := _text(machine))
        }
        if not changed:
            return
        cursor = self._connection.cursor()
        cursor.executemany(
            _SET_MACHINE,
            [
                {
                    "key": key,
                    "name": machine.name,
                    "file": machine.file,
                    "declared": declared,
                    "at_ms": to_ms(registry.loaded_at),
                    "site": self._site,
                    "number": shard_of(machine.name),
                }
                for key, (machine, declared) in changed.items()
            ],
            returning=True,
        )
        for (key, (machine, declared)), result in zip(changed.items(), cursor.results(), strict=True):
            ((number,),) = result.fetchall()
            self._note(
                key, KnownRow(number, machine.name, shard_of(key), machine.file, declared), machine, registry
            )

    def _is_known(self, machine: Machine, declared: str) -> bool:
        known = self._known.get(machine.name.casefold())
        return known is not None and (known.file, known.declared) == (machine.file, declared)

    def _note(self, key: str, row: KnownRow, machine: Machine, registry: Registry) -> None:
        before, self._known[key] = self._known.get(key), row
        self.changed.add(row.shard)
        if before is None:
            self._events.add(row.id, Event(registry.loaded_at, "machine_added", {"file": machine.file}))
        elif keys := changed_keys(_declared(before.declared), machine.declared):
            detail = {"file": machine.file, "keys": keys}
            self._events.add(row.id, Event(registry.loaded_at, "machine_changed", detail))


def _text(machine: Machine) -> str:
    """The declared keys of a machine file, as JSON."""
    texts = (f"{orjson.dumps(key).decode()}: {value}" for key, value in machine.declared_json.items())
    return f"{{{', '.join(texts)}}}"


def _declared(text: str) -> dict[str, Any]:
    """The previous declaration; empty if it is damaged."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}
