"""Writes what a poller learned about machines whose shards it still holds."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import orjson

from machines_server.core.host_services import OWN_HOST, ServiceResult
from machines_server.core.machine import Registry
from machines_server.core.sample import (
    Cycle,
    Library,
    LoadedModel,
    PollResult,
    Sample,
    UnchangedLibrary,
)
from machines_server.core.shards import HOLD_INTERVALS, part_of, shard_of
from machines_server.store.postgres.database import Connection
from machines_server.store.postgres.events import PostgresEvents
from machines_server.store.postgres.gpu_rows import GpuRows
from machines_server.store.postgres.known_before import PostgresBefore
from machines_server.store.postgres.latest_rows import LatestRow, LatestRows
from machines_server.store.postgres.machines import MachineRows
from machines_server.store.postgres.rows import PostgresRows
from machines_server.store.postgres.services import PostgresServices
from machines_server.store.sql.budget import Budgets
from machines_server.store.sql.events import to_ms
from machines_server.store.sql.host_services import ServiceRows
from machines_server.store.sql.machine_events import MachineEvents
from machines_server.store.sql.stays import Stays
from machines_server.store.values import Update

POLLS_CHANNEL = "machines_polls"
"""The channel that announces shards with new rows, as `SITE NUMBER,NUMBER,...`."""
_FENCE = """
SELECT number, epoch, id, revision + 1, rare_revision + 1
FROM shard WHERE site = %s AND owner = %s AND number = ANY(%s) ORDER BY id FOR NO KEY UPDATE"""
"""Keeps others from taking these shards before the transaction ends.

Epochs are compared in Python: a join with the expected ones would compare every pair.
"""
_RAISE = """
UPDATE shard SET revision = revision + (id = ANY(%(polled)s))::int,
    rare_revision = rare_revision + (id = ANY(%(rare)s))::int
WHERE id = ANY(%(polled)s) OR id = ANY(%(rare)s) RETURNING number"""
_RENEW_AFTER_CYCLE = """
UPDATE shard SET expires_at_ms = greatest(expires_at_ms, now_ms() + %s) WHERE id = ANY(%s)"""
_END_CYCLE = """
UPDATE poller SET expires_at_ms = greatest(expires_at_ms, now_ms() + %(hold_ms)s),
    cycle_started_at_ms = %(began_ms)s, cycle_ended_at_ms = %(ended_ms)s, interval_s = %(interval_s)s,
    timeout_s = %(timeout_s)s
WHERE id = %(poller)s"""
_EXTEND_SPAN_OF_POLLER = """
UPDATE poll_span SET ended_at_ms = %(ended_ms)s
WHERE id = (SELECT max(id) FROM poll_span WHERE site = %(site)s AND poller = %(poller)s)
AND abs(%(began_ms)s - ended_at_ms) <= %(max_gap_ms)s"""
_BEGIN_SPAN_OF_POLLER = """
INSERT INTO poll_span (site, poller, started_at_ms, ended_at_ms)
VALUES (%(site)s, %(poller)s, %(began_ms)s, %(ended_ms)s)"""
_SET_SHARED_LIBRARY = """
INSERT INTO library (machine_id, url, asked_at_ms, has_listed, models, revision)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (machine_id) DO UPDATE SET
    has_listed = excluded.has_listed OR (library.has_listed AND library.url = excluded.url),
    url = excluded.url, asked_at_ms = excluded.asked_at_ms, models = excluded.models,
    revision = excluded.revision"""
_CONFIRM_SHARED_LIBRARY = """
UPDATE library SET asked_at_ms = %s, revision = %s WHERE machine_id = %s AND url = %s"""
_GPUS_SINCE = "SELECT uuid, 1 FROM gpu WHERE machine_id = ? AND first_seen_at_ms >= ?"

_OfMachine = PollResult | ServiceResult | Sample | Library | UnchangedLibrary
_Models = tuple[LoadedModel, ...]


class PollerId(NamedTuple):
    """The id under which a poller holds shards, with its site and the name of its server."""

    id: str
    site: str
    server: str


class _Fenced(NamedTuple):
    """A shard that nobody can take before the transaction ends: its id, and the revisions of new rows."""

    id: int
    revision: int
    rare_revision: int


class Written(NamedTuple):
    """What a transaction has written: samples, removed machines and when, and machines that others poll."""

    samples: list[Sample]
    removed: list[tuple[str, float]]
    lost: list[str]


class PollWriter:
    """Writes on one connection, for one thread.

    Its memory only mirrors the database, for the shards held as of the last registry.
    """

    def __init__(self, connection: Connection, poller: PollerId, max_gap_s: float) -> None:
        """`max_gap_s`: across a longer gap, nothing is assumed to have continued."""
        self._connection, self._site, self._poller = connection, poller.site, poller.id
        self._max_gap_ms = round(max_gap_s * 1000)
        self._held: Mapping[int, int] = {}
        self._fenced: dict[int, _Fenced] = {}
        self._lost: set[int] = set()
        self._polled: set[int] = set()
        self._written = Written([], [], [])
        self._rare: set[int] = set()
        rows = PostgresRows(connection)
        self._event_table, self._latest = PostgresEvents(connection), LatestRows(connection)
        self._machines = MachineRows(connection, poller.site, self._event_table)
        self._budgets, self._before = Budgets(rows, _GPUS_SINCE), PostgresBefore()
        self._events = MachineEvents(self._event_table, self._budgets, self._before)
        self._stays = Stays(rows, self._event_table, self._max_gap_ms, self._budgets.loads)
        self._service_table = PostgresServices(connection, poller.site, poller.server)
        self._services = ServiceRows(self._service_table, self._event_table, self._budgets)
        self._gpus = GpuRows(connection, self._budgets)
        self._texts: dict[int, tuple[_Models, str]] = {}
        self._any_spent = False
        self.news = ""
        """What to announce on POLLS_CHANNEL once the transaction has been committed."""

    def write(self, items: Sequence[Update]) -> Written:
        """Write all items in an open transaction."""
        self._fenced, self._lost, self._written = {}, set(), Written([], [], [])
        self._polled, self._rare, self.news = set(), set(), ""
        self._any_spent = self._budgets.any_spent
        self._latest.begin()
        self._fence(items)
        for item in items:
            if isinstance(item, Registry):
                self._set_registry(item)
            elif isinstance(item, Cycle):
                self._end_cycle(item)
            elif isinstance(item, ServiceResult) and item.machine == OWN_HOST:
                self._services.set(None, item)
            elif (shard := self._fenced.get(shard_of(item.machine))) is not None:
                self._write_one(item, shard)
        self._latest.write()
        self._gpus.write()
        for changed in self._machines.changed, self._service_table.changed:
            self._rare |= {self._fenced[number].id for number in changed if number in self._fenced}
            changed.clear()
        if self._polled or self._rare:
            values = {"polled": list(self._polled), "rare": list(self._rare)}
            numbers = ",".join(str(number) for (number,) in self._connection.execute(_RAISE, values))
            self.news = f"{self._site} {numbers}"
        self._event_table.write()
        return self._written

    def read_back(self) -> None:
        """Reload the memory after a transaction that was not committed."""
        self._latest.clear()
        self._gpus.clear()
        self._event_table.clear()
        self._read_back(self._held)

    def _read_back(self, held: Mapping[int, int]) -> None:
        numbers = list(held)
        self._held = held
        self._machines.read_back(held)
        self._before.read_back(self._connection, self._site, held)
        self._service_table.shards = numbers
        for part in (self._stays, self._services, self._events):
            part.read_back()
        self._service_table.changed.clear()
        self._budgets.forget()
        self._gpus.read_back(self._site, numbers)
        self._texts = {}

    def _fence(self, items: Iterable[Update]) -> None:
        """Lock the shards of everything to be written; forget those that others have taken.

        They are locked all at once, since everyone locks shards in the same order.
        """
        wanted, coming = set[int](), set[int]()
        for item in items:
            if isinstance(item, Cycle):
                wanted |= self._held.keys()
            elif isinstance(item, Registry):
                wanted |= self._held.keys()
                coming |= (item.shards or {}).keys() - self._held.keys()
                break  # the following items may be of other shards
            else:
                wanted.add(shard_of(item.machine))
        self._lock(wanted & self._held.keys(), coming)

    def _lock(self, shards: Set[int], coming: Set[int] = frozenset()) -> None:
        """Lock and check these shards, and lock those that are checked later."""
        wanted = shards - self._fenced.keys() - self._lost
        if not wanted and not coming:
            return
        rows = self._connection.execute(_FENCE, (self._site, self._poller, [*wanted, *coming]))
        for number, epoch, *fenced in rows:
            if number in wanted and epoch == self._held[number]:
                self._fenced[number] = _Fenced(*fenced)
        for number in wanted - self._fenced.keys():
            self._lost.add(number)
            for machine in self._machines.forget(number):
                self._forget(machine.id)
                self._written.lost.append(machine.name)

    def _write_one(self, item: _OfMachine, shard: _Fenced) -> None:
        machine = self._machines.id(item.machine)
        if machine is None:  # its file was removed while it was polled
            return
        match item:
            case PollResult():
                self._set_latest(machine, item, shard)
            case ServiceResult():
                self._services.set(machine, item)
            case Sample():
                self._add_sample(machine, item, shard)
                self._written.samples.append(item)
            case Library() | UnchangedLibrary():
                self._set_library(machine, item, shard)

    def _set_registry(self, registry: Registry) -> None:
        self._latest.write()  # rows of machines that are removed below
        self._gpus.write()
        shards, before = registry.shards or {}, self._held
        if shards != before:
            self._fenced = {
                number: fenced
                for number, fenced in self._fenced.items()
                if shards.get(number) == self._held.get(number)
            }
            self._lost.clear()
            for number in self._held.keys() - shards.keys():
                self._written.lost.extend(machine.name for machine in self._machines.forget(number))
            self._held = shards
        self._lock(shards.keys())
        held = {number: epoch for number, epoch in shards.items() if number in self._fenced}
        if held != before:
            self._read_back(held)
        registry = part_of(registry, held)  # other pollers know the machines of the other shards
        for machine in self._machines.set_all(registry):
            self._stays.end_all(machine.id)
            self._forget(machine.id)
            self._written.removed.append((machine.name, registry.loaded_at))
        self._services.keep_declared(registry)

    def _forget(self, machine: int) -> None:
        self._events.forget(machine)
        self._texts.pop(machine, None)

    def _set_latest(self, machine: int, result: PollResult, shard: _Fenced) -> None:
        at_ms, answer, reason = to_ms(result.at), result.answer, result.reason
        self._polled.add(shard.id)
        if reason is None and self._any_spent:
            reason = self._budgets.remark(machine, at_ms, reports_host=result.endpoint.reports_host)
        self._latest.add(
            LatestRow(
                shard_id=shard.id,
                machine_id=machine,
                endpoint=result.endpoint.kind,
                url=result.endpoint.url,
                state=result.state,
                reason=reason,
                hint=result.hint,
                polled_at_ms=at_ms,
                answered_at_ms=at_ms if answer is not None else None,
                clock_ahead_s=result.clock_ahead_s,
                up_since_ms=None,
                revision=shard.revision,
                models=None
                if answer is None or answer.models is None
                else self._text(machine, answer.models),
                host=None if answer is None or answer.host is None else orjson.dumps(answer.host).decode(),
            )
        )

    def _text(self, machine: int, models: _Models) -> str:
        """The models as JSON; a list that did not change is the same object."""
        known, text = self._texts.get(machine, (None, ""))
        if known is not models:
            text = orjson.dumps(models).decode()
            self._texts[machine] = models, text
        return text

    def _set_library(self, machine: int, library: Library | UnchangedLibrary, shard: _Fenced) -> None:
        self._rare.add(shard.id)
        revision, at_ms = shard.rare_revision, to_ms(library.at)
        if isinstance(library, UnchangedLibrary):
            self._connection.execute(_CONFIRM_SHARED_LIBRARY, (at_ms, revision, machine, library.url))
        else:
            models = orjson.dumps(library.models).decode()
            row = (machine, library.url, at_ms, bool(library.models), models, revision)
            self._connection.execute(_SET_SHARED_LIBRARY, row)

    def _add_sample(self, machine: int, sample: Sample, shard: _Fenced) -> None:
        self._events.add(machine, sample)
        for result in sample.results.values():
            answer = result.answer
            if answer is None:
                continue
            for gpu in answer.host.gpu if answer.host else ():
                self._gpus.note(machine, gpu, to_ms(sample.at))
            if answer.models is not None and self._stays.follow(machine, result.at, answer.models):
                self._rare.add(shard.id)

    def _end_cycle(self, cycle: Cycle) -> None:
        hold_ms = round(HOLD_INTERVALS * cycle.interval_s * 1000)
        values = {
            "site": self._site,
            "poller": self._poller,
            "hold_ms": hold_ms,
            "began_ms": to_ms(cycle.started_at),
            "ended_ms": to_ms(cycle.ended_at),
            "interval_s": cycle.interval_s,
            "timeout_s": cycle.timeout_s,
            "max_gap_ms": self._max_gap_ms,
        }
        self._connection.execute(_END_CYCLE, values)
        self._connection.execute(
            _RENEW_AFTER_CYCLE, (hold_ms, [fenced.id for fenced in self._fenced.values()])
        )
        if self._connection.execute(_EXTEND_SPAN_OF_POLLER, values).rowcount == 0:
            self._connection.execute(_BEGIN_SPAN_OF_POLLER, values)
        else:
            self._events.end_cycle(cycle, self._max_gap_ms / 1000)
