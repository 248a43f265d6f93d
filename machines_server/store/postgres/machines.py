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
from machines_server.store.postgres.rows import PostgresRows
from machines_server.store.sql.events import add_event, to_ms

_KNOWN = """
SELECT key, machine.id, name, number, file, declared FROM machine JOIN shard ON shard.id = shard_id
WHERE machine.site = %s AND number = ANY(%s) AND removed_at_ms IS NULL"""
_SET = """
INSERT INTO machine (shard_id, site, key, name, file, declared, added_at_ms)
SELECT id, site, %(key)s, %(name)s, %(file)s, %(declared)s, %(at_ms)s
FROM shard WHERE site = %(site)s AND number = %(number)s
ON CONFLICT (site, key) DO UPDATE SET
    name = excluded.name, file = excluded.file, declared = excluded.declared, removed_at_ms = NULL
RETURNING id"""
_REMOVE = (
    "UPDATE machine SET removed_at_ms = %(at_ms)s WHERE id = %(id)s",
    "DELETE FROM latest WHERE machine_id = %(id)s",
    "DELETE FROM library WHERE machine_id = %(id)s",
    "DELETE FROM host_service WHERE machine_id = %(id)s",
)


@dataclass(frozen=True, slots=True)
class KnownRow:
    """A machine whose file is there: its id, the number of its shard, and its last good version."""

    id: int
    name: str
    shard: int
    file: str
    declared: str


class MachineRows:
    """Follows the registry: knows the ids of machines, and writes events when their files change."""

    def __init__(self, connection: Connection, site: str) -> None:
        self._connection, self._site = connection, site
        self._known: dict[str, KnownRow] = {}
        self.changed: set[int] = set()
        """The shards of machines that were added, changed or removed."""

    def read_back(self, shards: Mapping[int, int]) -> None:
        """Read the machines of these shards."""
        rows = self._connection.execute(_KNOWN, (self._site, list(shards)))
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
        for machine in registry:
            self._set(machine, registry.loaded_at)
        missing = [key for key in self._known if registry.get(key) is None] if registry.is_whole else []
        gone = [self._known.pop(key) for key in missing]
        self.changed |= {known.shard for known in gone}
        for known in gone:
            for statement in _REMOVE:
                self._connection.execute(statement, {"at_ms": to_ms(registry.loaded_at), "id": known.id})
            self._add_event(known.id, Event(registry.loaded_at, "machine_removed"))
        return gone

    def _set(self, machine: Machine, at: float) -> None:
        texts = (f"{orjson.dumps(key).decode()}: {value}" for key, value in machine.declared_json.items())
        declared, key = f"{{{', '.join(texts)}}}", machine.name.casefold()
        before = self._known.get(key)
        if before and (before.file, before.declared) == (machine.file, declared):
            return
        shard = shard_of(machine.name)
        self.changed.add(shard)
        values = {
            "key": key,
            "name": machine.name,
            "file": machine.file,
            "declared": declared,
            "at_ms": to_ms(at),
            "site": self._site,
            "number": shard,
        }
        ((number,),) = self._connection.execute(_SET, values).fetchall()
        self._known[key] = KnownRow(number, machine.name, shard, machine.file, declared)
        if before is None:
            self._add_event(number, Event(at, "machine_added", {"file": machine.file}))
        elif keys := changed_keys(_declared(before.declared), machine.declared):
            self._add_event(number, Event(at, "machine_changed", {"file": machine.file, "keys": keys}))

    def _add_event(self, machine_id: int, event: Event) -> None:
        add_event(PostgresRows(self._connection), machine_id, event)


def _declared(text: str) -> dict[str, Any]:
    """The previous declaration; empty if it is damaged."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}
