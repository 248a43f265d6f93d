"""Copies what PostgreSQL keeps: machines, GPUs, models, stays, events, and when hosts were polled."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from machines_server.copying.progress import Progress, Reached
from machines_server.copying.source import Source
from machines_server.core.shards import SHARDS, shard_of
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.rows import PostgresRows
from machines_server.store.sql.residency import add_stay

ROWS_AT_ONCE = 500
_BATCH_DEADLINE_S = 60.0
_SPANS_OF = "copied"
"""Represents the poller in copied periods of polling."""
_ADD_SHARDS = """
INSERT INTO shard (site, number) SELECT %s, generate_series(0, %s) ON CONFLICT DO NOTHING"""
_RAISE_SHARDS = """
WITH held AS (SELECT id FROM shard WHERE site = %s ORDER BY id FOR UPDATE)
UPDATE shard SET rare_revision = rare_revision + 1 FROM held WHERE shard.id = held.id"""
_COPY_MACHINE = """
INSERT INTO machine (shard_id, site, key, name, names, file, declared, added_at_ms, removed_at_ms)
SELECT id, site, %(key)s, %(name)s, ARRAY[%(name)s], %(file)s, %(declared)s, %(added_ms)s, %(removed_ms)s
FROM shard WHERE site = %(site)s AND number = %(number)s
ON CONFLICT (site, key) DO UPDATE SET added_at_ms = least(machine.added_at_ms, excluded.added_at_ms),
    names = CASE WHEN excluded.name = ANY(machine.names) THEN machine.names
        ELSE machine.names || excluded.name END
RETURNING id, name, xmax = 0"""
"""The last column says whether the row is new: no other transaction has ever written it."""
_COPY_GPU = """
INSERT INTO gpu (machine_id, uuid, position, model, memory_kind, first_seen_at_ms)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
_COPY_SIZE = """
INSERT INTO model_size (machine_id, model, digest, context_length, size_bytes, size_vram_bytes, seen_at_ms)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (machine_id, model, digest, context_length) DO UPDATE SET
    size_bytes = excluded.size_bytes, size_vram_bytes = excluded.size_vram_bytes,
    seen_at_ms = excluded.seen_at_ms
WHERE excluded.seen_at_ms > model_size.seen_at_ms"""
_COPY_LIBRARY = """
INSERT INTO library (machine_id, url, asked_at_ms, has_listed, models, revision)
SELECT machine.id, %s, %s, %s, %s, rare_revision FROM machine JOIN shard ON shard.id = shard_id
WHERE machine.id = %s AND removed_at_ms IS NULL ON CONFLICT DO NOTHING"""
_COPY_STAY = """
INSERT INTO model_span (
    machine_id, model, digest, size_bytes, size_vram_bytes, context_length, first_seen_at_ms,
    last_seen_at_ms, absent_at_ms)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"""
_EXTEND_STAY = "UPDATE model_span SET last_seen_at_ms = %s WHERE id = %s"
_TAKE_IDS = "UPDATE event_counter SET value = value + %s RETURNING value"
_COPY_EVENT = "INSERT INTO event (id, at_ms, machine_id, type, detail) VALUES (%s, %s, %s, %s, %s)"
_EXTEND_POLLING = """
UPDATE poll_span SET ended_at_ms = greatest(ended_at_ms, %s)
WHERE site = %s AND poller = %s AND started_at_ms = %s AND ended_at_ms >= started_at_ms"""
_COPY_POLLING = "INSERT INTO poll_span (ended_at_ms, site, poller, started_at_ms) VALUES (%s, %s, %s, %s)"

_SOURCE_MACHINES = "SELECT id, name, file, declared, added_at_ms, removed_at_ms FROM machine ORDER BY id"
_FIRST_OF_GPU = " UNION ALL ".join(
    f"SELECT min({at}) AS at_ms FROM {table} WHERE gpu_id = gpu.id"
    for table, at in (
        ("gpu_sample", "at_ms"),
        ("gpu_sample_1m", "at_s * 1000"),
        ("gpu_sample_10m", "at_s * 1000"),
        ("gpu_sample_1h", "at_s * 1000"),
    )
)
_SOURCE_GPUS = f"""
SELECT machine_id, uuid, position, model, memory_kind,
    coalesce((SELECT min(at_ms) FROM ({_FIRST_OF_GPU})), added_at_ms)
FROM gpu JOIN machine ON machine.id = machine_id ORDER BY gpu.id"""
_SOURCE_SIZES = """
SELECT machine_id, model, digest, context_length, size_bytes, size_vram_bytes, seen_at_ms FROM model_size"""
_SOURCE_LIBRARIES = "SELECT url, asked_at_ms, has_listed, models, machine_id FROM library"
_SOURCE_STAY = """
SELECT model_span.id, machine_id, model, digest, size_bytes, size_vram_bytes, context_length,
    first_seen_at_ms, coalesce(last_seen_at_ms, max(first_seen_at_ms, coalesce((
        SELECT max(answered_at_ms) FROM latest
        WHERE latest.machine_id = model_span.machine_id AND models IS NOT NULL), 0))),
    absent_at_ms, last_seen_at_ms IS NULL
FROM model_span WHERE {} ORDER BY id LIMIT ?"""
_NEXT_STAYS, _ONE_STAY = _SOURCE_STAY.format("id > ?"), _SOURCE_STAY.format("id = ?")
_NEXT_EVENTS = "SELECT id, at_ms, machine_id, type, detail FROM event WHERE id > ? ORDER BY id LIMIT ?"
_SOURCE_POLLING = "SELECT id, ended_at_ms, started_at_ms FROM poll_span WHERE id >= ? ORDER BY id LIMIT ?"


class Target(NamedTuple):
    """A machine in PostgreSQL: its id, and its name as spelled there."""

    id: int
    name: str


Targets = Mapping[int, Target]
"""Machines by their ids in the source."""
Told = Callable[[int], None]
"""Called with the number of copied rows."""


class RowCopy:
    """Copies rows of a source into a site; each batch and its progress are one transaction."""

    def __init__(self, source: Source, database: Database, site: str, progress: Progress, told: Told) -> None:
        self._source, self._database, self._site = source, database, site
        self._progress, self._told = progress, told

    def machines(self) -> Targets:
        """Copy machines, including removed ones; those already known there stay unchanged."""
        rows, targets, new = self._source.rows(_SOURCE_MACHINES), dict[int, Target](), 0
        with self._database.transaction(_BATCH_DEADLINE_S) as connection:
            connection.execute(_ADD_SHARDS, (self._site, SHARDS - 1))
            connection.execute(_RAISE_SHARDS, (self._site,))
            for number, name, file, declared, added_ms, removed_ms in rows:
                values = {
                    "site": self._site,
                    "number": shard_of(name),
                    "key": name.casefold(),
                    "name": name,
                    "file": kept_text(file),
                    "declared": kept_text(declared),
                    "added_ms": added_ms,
                    "removed_ms": removed_ms,
                }
                ((*target, is_new),) = connection.execute(_COPY_MACHINE, values).fetchall()
                targets[number] = Target(*target)
                new += is_new
        self._told(new)
        return targets

    def of_machines(self, targets: Targets) -> None:
        """Copy GPUs, sizes of models in memory, and models on disks; newer values there stay."""
        gpus = [
            (targets[machine].id, kept_text(uuid), position, kept_text(model), kind, first_ms)
            for machine, uuid, position, model, kind, first_ms in self._source.rows(_SOURCE_GPUS)
        ]
        sizes = [
            (targets[machine].id, kept_text(model), kept_text(digest), *rest)
            for machine, model, digest, *rest in self._source.rows(_SOURCE_SIZES)
            if machine in targets  # earlier versions did not record whose they are
        ]
        libraries = [
            (kept_text(url), asked_ms, bool(has_listed), kept_text(models), targets[machine].id)
            for url, asked_ms, has_listed, models, machine in self._source.rows(_SOURCE_LIBRARIES)
        ]
        for statement, rows in ((_COPY_GPU, gpus), (_COPY_SIZE, sizes), (_COPY_LIBRARY, libraries)):
            for at in range(0, len(rows), ROWS_AT_ONCE):
                some = rows[at : at + ROWS_AT_ONCE]
                with self._database.transaction(_BATCH_DEADLINE_S) as connection:
                    cursor = connection.cursor()
                    cursor.executemany(statement, some)
                self._told(cursor.rowcount)

    def stays(self, targets: Targets) -> None:
        """Copy stays, and add them to the totals; an open one ends when it was last seen."""
        reached = self._progress.begun("stays")
        reached = self._extend_stays(targets, reached)
        while rows := self._source.rows(_NEXT_STAYS, reached.until, ROWS_AT_ONCE):
            held = dict(reached.detail)
            with self._database.transaction(_BATCH_DEADLINE_S) as connection:
                for number, machine, model, digest, *rest, began_ms, ended_ms, absent_ms, goes_on in rows:
                    name, target = kept_text(model), targets[machine].id
                    stay = (target, name, kept_text(digest), *rest, began_ms, ended_ms, absent_ms)
                    ((copied,),) = connection.execute(_COPY_STAY, stay).fetchall()
                    add_stay(PostgresRows(connection), target, name, began_ms, ended_ms)
                    if goes_on:
                        held[str(number)] = [copied, ended_ms]
                after = Reached(rows[-1][0], held)
                self._progress.advance(connection, "stays", reached, after)
            reached = after
            self._told(len(rows))

    def _extend_stays(self, targets: Targets, reached: Reached) -> Reached:
        """Extend copied stays that were still open at the previous copy."""
        if not reached.detail:
            return reached
        held = dict[str, Any]()
        with self._database.transaction(_BATCH_DEADLINE_S) as connection:
            for number, (copied, until_ms) in reached.detail.items():
                found = self._source.rows(_ONE_STAY, int(number), 1)
                if not found:
                    continue
                _, machine, model, *_, ended_ms, _, goes_on = found[0]
                if ended_ms > until_ms:
                    connection.execute(_EXTEND_STAY, (ended_ms, copied))
                    rows = PostgresRows(connection)
                    add_stay(rows, targets[machine].id, kept_text(model), until_ms, ended_ms)
                if goes_on:
                    held[number] = [copied, max(until_ms, ended_ms)]
            after = Reached(reached.until, held)
            self._progress.advance(connection, "stays", reached, after)
        return after

    def events(self, targets: Targets) -> None:
        """Copy events in their order, with new ids."""
        reached = self._progress.begun("events")
        while rows := self._source.rows(_NEXT_EVENTS, reached.until, ROWS_AT_ONCE):
            after = Reached(rows[-1][0], {})
            with self._database.transaction(_BATCH_DEADLINE_S) as connection:
                self._progress.advance(connection, "events", reached, after)
                ((last,),) = connection.execute(_TAKE_IDS, (len(rows),)).fetchall()
                events = [
                    (number, at_ms, targets[machine].id, type_, kept_text(detail))
                    for number, (_, at_ms, machine, type_, detail) in enumerate(rows, last - len(rows) + 1)
                ]
                connection.cursor().executemany(_COPY_EVENT, events)
            reached = after
            self._told(len(rows))

    def polling(self) -> None:
        """Copy when hosts were polled; the last period may have become longer since it was copied."""
        reached, of_site = self._progress.begun("polling"), (self._site, _SPANS_OF)
        while rows := self._source.rows(_SOURCE_POLLING, reached.until, ROWS_AT_ONCE):
            after = Reached(rows[-1][0], {})
            with self._database.transaction(_BATCH_DEADLINE_S) as connection:
                self._progress.advance(connection, "polling", reached, after)
                for number, ended_ms, began_ms in rows:
                    statement = _EXTEND_POLLING if number == reached.until else _COPY_POLLING
                    connection.execute(statement, (ended_ms, *of_site, began_ms))
            self._told(len(rows) - (rows[0][0] == reached.until))
            reached = after
            if len(rows) < ROWS_AT_ONCE:
                break


def kept_text(text: Any) -> Any:
    """A text that PostgreSQL accepts: hosts choose some texts, and it takes no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(text, str) else text
