"""Reads the present of single shards; each statement takes shard ids and a shift of times in ms."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from machines_server.core.host_services import PolledService
from machines_server.core.sample import (
    Library,
    ModelSize,
    StoredModel,
)
from machines_server.core.snapshot import Latest
from machines_server.store.postgres.database import Connection
from machines_server.store.sql.host_services import status_named
from machines_server.store.sql.latest import latest_of

_LATEST = """
SELECT latest.shard_id, key, endpoint, host, models, url, state, reason,
    polled_at_ms - %(shift)s, answered_at_ms - %(shift)s, clock_ahead_s, up_since_ms - %(shift)s, hint
FROM unnest(%(ids)s::int[], %(revisions)s::bigint[]) AS known (id, revision)
JOIN latest ON latest.shard_id = known.id AND latest.revision > known.revision
JOIN machine ON machine.id = machine_id"""
_LIBRARIES = """
SELECT shard_id, name, url, (asked_at_ms - %(shift)s) / 1000.0::double precision, models, has_listed
FROM library JOIN machine ON machine.id = machine_id WHERE shard_id = ANY(%(ids)s)"""
_SIZES = """
SELECT shard_id, model, nullif(digest, ''), nullif(context_length, 0), size_bytes, size_vram_bytes,
    (seen_at_ms - %(shift)s) / 1000.0::double precision, name
FROM model_size JOIN machine ON machine.id = machine_id WHERE shard_id = ANY(%(ids)s)"""
_HELD_OF_SHARDS = """
SELECT shard_id, key, model, (first_seen_at_ms - %(shift)s) / 1000.0::double precision,
    (absent_at_ms - %(shift)s) / 1000.0::double precision
FROM model_span JOIN machine ON machine.id = machine_id
WHERE last_seen_at_ms IS NULL AND shard_id = ANY(%(ids)s)"""
_SERVICES_OF_SHARDS = """
SELECT shard_id, key, host_service.name, url, status, reason,
    (since_ms - %(shift)s) / 1000.0::double precision
FROM host_service JOIN machine ON machine.id = machine_id WHERE shard_id = ANY(%(ids)s)"""
_KEYS_OF_SHARDS = "SELECT shard_id, key FROM machine WHERE removed_at_ms IS NULL AND shard_id = ANY(%(ids)s)"

_stored_models = msgspec.json.Decoder(tuple[StoredModel, ...]).decode


@dataclass(slots=True)
class Shard:
    """What is known about the machines of one shard, by their case-folded names."""

    id: int
    revision: int = -1
    rare_revision: int = -1
    latest: dict[str, Mapping[str, Latest]] = field(default_factory=dict)
    libraries: Mapping[str, Library] = field(default_factory=dict)
    sizes: tuple[ModelSize, ...] = ()
    held_since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    absent_at: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, PolledService]] = field(default_factory=dict)


def read_latest(connection: Connection, shards: Iterable[Shard], shift_ms: int) -> None:
    """Add the polls that were written since the revision of each shard."""
    by_id = {shard.id: shard for shard in shards}
    if not by_id:
        return
    values = {
        "ids": list(by_id),
        "revisions": [shard.revision for shard in by_id.values()],
        "shift": shift_ms,
    }
    for shard_id, key, endpoint, *row in connection.execute(_LATEST, values):
        latest = by_id[shard_id].latest
        latest[key] = {**latest.get(key, {}), endpoint: latest_of(*row)}


def read_rare(connection: Connection, shards: Iterable[Shard], shift_ms: int) -> None:
    """Reread what changes rarely, and forget the polls of machines that were removed."""
    by_id = {shard.id: shard for shard in shards}
    if not by_id:
        return
    read = partial(_by_shard, connection, {"ids": list(by_id), "shift": shift_ms})
    keys, libraries, sizes, held, services = map(
        read, (_KEYS_OF_SHARDS, _LIBRARIES, _SIZES, _HELD_OF_SHARDS, _SERVICES_OF_SHARDS)
    )
    for shard in by_id.values():
        there = {key for (key,) in keys[shard.id]}
        shard.latest = {key: polls for key, polls in shard.latest.items() if key in there}
        shard.libraries = _libraries(libraries[shard.id], shard.libraries)
        shard.sizes = tuple(ModelSize(*row) for row in sizes[shard.id])
        shard.held_since = _nested((key, model, since) for key, model, since, _ in held[shard.id])
        shard.absent_at = _nested((key, model, at) for key, model, _, at in held[shard.id] if at is not None)
        shard.services = _nested(
            (key, name, PolledService(url, status_named(status), reason, since))
            for key, name, url, status, reason, since in services[shard.id]
        )


def _by_shard(
    connection: Connection, values: Mapping[str, Any], statement: str
) -> defaultdict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for shard, *row in connection.execute(statement.encode(), values):
        found[shard].append(row)
    return found


def _nested(rows: Iterable[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, name, value in rows:
        found.setdefault(key, {})[name] = value
    return found


def _libraries(rows: Iterable[Any], before: Mapping[str, Library]) -> dict[str, Library]:
    """The libraries by machine; an unchanged one is the same object as before."""
    libraries = {}
    for name, url, at, text, has_listed in rows:
        key, library = name.casefold(), Library(name, url, at, _stored_models(text), has_listed)
        known = before.get(key)
        is_same = known == library and known is not None and known.has_listed == has_listed
        libraries[key] = known if is_same and known is not None else library
    return libraries
