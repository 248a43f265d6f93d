"""Writes polls to `telemetry.db`: the present here, the past through the classes of other modules."""

import sqlite3
import time
from collections.abc import Iterable

import orjson

from machines_server.core.host_services import OWN_HOST, ServiceResult
from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle, Library, LoadedModel, PollResult, Sample, UnchangedLibrary
from machines_server.store.sql.budget import Budgets
from machines_server.store.sql.events import to_ms
from machines_server.store.sql.host_services import ServiceRows
from machines_server.store.sql.machine_events import MachineEvents
from machines_server.store.sql.stays import Stays
from machines_server.store.sqlite.connection import transaction
from machines_server.store.sqlite.telemetry.bulk import Bulk
from machines_server.store.sqlite.telemetry.events import SqliteEvents
from machines_server.store.sqlite.telemetry.history_rows import GPUS_SINCE, HistoryRows
from machines_server.store.sqlite.telemetry.host_services import SqliteServices
from machines_server.store.sqlite.telemetry.known_before import SqliteBefore
from machines_server.store.sqlite.telemetry.machines import MachineRows
from machines_server.store.sqlite.telemetry.residency import is_due
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.values import Update

_SET_LATEST = """
INSERT INTO latest
    (machine_id, endpoint, url, state, reason, hint, polled_at_ms, answered_at_ms, clock_ahead_s, revision,
     models, host)"""
_REPLACE_LATEST = """
ON CONFLICT (machine_id, endpoint) DO UPDATE SET
    state = excluded.state, reason = excluded.reason, hint = excluded.hint,
    polled_at_ms = excluded.polled_at_ms,
    up_since_ms = CASE WHEN excluded.state NOT IN ('ok', 'busy') THEN NULL
                       WHEN state IN ('ok', 'busy') AND url = excluded.url THEN up_since_ms
                       ELSE excluded.polled_at_ms END,
    {answer}, url = excluded.url, revision = excluded.revision""".format(
    answer=", ".join(
        f"{column} = CASE WHEN excluded.answered_at_ms IS NOT NULL THEN excluded.{column}"
        f" WHEN url = excluded.url THEN {column} END"
        for column in ("answered_at_ms", "clock_ahead_s", "models", "host")
    )
)
"""A poll without an answer keeps the last answer, unless that came from another URL."""
_SET_LIBRARY = """
INSERT INTO library (machine_id, url, asked_at_ms, has_listed, revision, models) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (machine_id) DO UPDATE SET
    has_listed = excluded.has_listed OR (has_listed AND url = excluded.url),
    url = excluded.url, asked_at_ms = excluded.asked_at_ms, revision = excluded.revision,
    models = excluded.models"""
_LAST_REVISION = """
SELECT coalesce(max(revision), 0)
FROM (SELECT max(revision) AS revision FROM latest UNION ALL SELECT max(revision) FROM library
      UNION ALL SELECT max(revision) FROM host_service)"""
_CONFIRM_LIBRARY = """
UPDATE library SET asked_at_ms = ?, revision = ? WHERE machine_id = ? AND url = ?"""
_EXTEND_POLL_SPAN = """
UPDATE poll_span SET cycle_started_at_ms = ?, ended_at_ms = ?, interval_s = ?, timeout_s = ?
WHERE id = (SELECT max(id) FROM poll_span) AND abs(? - ended_at_ms) <= ?"""
_BEGIN_POLL_SPAN = """
INSERT INTO poll_span (started_at_ms, cycle_started_at_ms, ended_at_ms, interval_s, timeout_s)
VALUES (?, ?, ?, ?, ?)"""

_Models = tuple[LoadedModel, ...]


class SampleWriter:
    """Writes what the poller learned; one instance, on the writing connection, used by one thread.

    Its memory (ids of rows, models in memory) only mirrors the database, and is reloaded after a failed
    write.
    """

    def __init__(self, connection: sqlite3.Connection, max_gap_s: float, rollups: Rollups) -> None:
        """`max_gap_s`: across a longer gap, nothing is assumed to have continued."""
        self._connection, self._rollups = connection, rollups
        self._max_gap_ms, self._revision = round(max_gap_s * 1000), 0
        self._latest = Bulk(_SET_LATEST, 12, _REPLACE_LATEST)
        events = SqliteEvents(connection)
        self._budgets, self._machines = Budgets(connection, GPUS_SINCE), MachineRows(connection, events)
        self._history = HistoryRows(connection, rollups, self._budgets.gpus)
        self._events = MachineEvents(events, self._budgets, SqliteBefore(connection))
        self._stays = Stays(
            connection, events, self._max_gap_ms, self._budgets.loads, lambda stay: is_due(connection, stay)
        )
        self._service_table = SqliteServices(connection)
        self._services = ServiceRows(self._service_table, events, self._budgets)
        self._read_back()

    def write(self, items: Iterable[Update]) -> None:
        """Write all items in one transaction, or none if it raises sqlite3.Error."""
        try:
            with transaction(self._connection):
                self._revision += 1
                self._service_table.revision = self._revision
                self._history.refresh()
                for item in items:
                    match item:
                        case PollResult():
                            self._set_latest(item)
                        case ServiceResult():
                            self._set_service(item)
                        case Sample():
                            self._add_sample(item)
                        case Registry():
                            self._set_registry(item)
                        case Cycle():
                            self._end_cycle(item)
                        case Library() | UnchangedLibrary():
                            self._set_library(item)
                self._insert_rows()
            self._any_spent = self._budgets.any_spent
        except BaseException:
            self._rollups.forget()
            self._read_back()
            raise

    def _insert_rows(self) -> None:
        self._latest.insert(self._connection)
        self._history.insert()

    def _read_back(self) -> None:
        self._latest.clear()
        (kept,) = self._connection.execute(_LAST_REVISION).fetchone()
        # Deleted rows may have had higher ones, and readers fetch only rows with higher ones than before.
        self._revision = max(kept, self._revision, to_ms(time.time()))
        self._machines.read_back()
        self._stays.read_back()
        self._services.read_back()
        self._budgets.forget()
        self._history.read_back()
        self._events.read_back()
        self._any_spent = False
        self._texts: dict[int, tuple[_Models, str]] = {}

    def _set_registry(self, registry: Registry) -> None:
        self._insert_rows()  # rows of machines that are removed below
        for machine in self._machines.set_all(registry):
            self._stays.end_all(machine)
            self._history.forget(machine)
            self._events.forget(machine)
            self._texts.pop(machine, None)
        self._services.keep_declared(registry)

    def _set_service(self, result: ServiceResult) -> None:
        machine = self._machines.id(result.machine)
        if machine is not None or result.machine == OWN_HOST:  # else its file was removed meanwhile
            self._services.set(machine, result)

    def _set_latest(self, result: PollResult) -> None:
        machine = self._machines.id(result.machine)
        if machine is None:  # its file was removed while it was polled
            return
        at_ms, answer, reason = to_ms(result.at), result.answer, result.reason
        if reason is None and self._any_spent:
            reason = self._budgets.remark(machine, at_ms, reports_host=result.endpoint.reports_host)
        self._latest.add(
            (
                machine,
                result.endpoint.kind,
                result.endpoint.url,
                result.state,
                reason,
                result.hint,
                at_ms,
                at_ms if answer is not None else None,
                result.clock_ahead_s,
                self._revision,
                None if answer is None or answer.models is None else self._text(machine, answer.models),
                None if answer is None or answer.host is None else orjson.dumps(answer.host).decode(),
            )
        )

    def _text(self, machine: int, models: _Models) -> str:
        """The models as JSON; a list that did not change is the same object."""
        known, text = self._texts.get(machine, (None, ""))
        if known is not models:
            text = orjson.dumps(models).decode()
            self._texts[machine] = models, text
        return text

    def _set_library(self, library: Library | UnchangedLibrary) -> None:
        machine, at_ms = self._machines.id(library.machine), to_ms(library.at)
        if machine is None:
            return
        if isinstance(library, UnchangedLibrary):
            same = (at_ms, self._revision, machine, library.url)
            self._connection.execute(_CONFIRM_LIBRARY, same)
        else:
            models = orjson.dumps(library.models).decode()
            row = (machine, library.url, at_ms, bool(library.models), self._revision, models)
            self._connection.execute(_SET_LIBRARY, row)

    def _add_sample(self, sample: Sample) -> None:
        machine = self._machines.id(sample.machine)
        if machine is None:
            return
        self._history.add(machine, sample)
        self._events.add(machine, sample)
        for result in sample.results.values():
            if result.answer is not None and result.answer.models is not None:
                self._stays.follow(machine, result.at, result.answer.models)

    def _end_cycle(self, cycle: Cycle) -> None:
        started_ms = to_ms(cycle.started_at)
        row = (started_ms, to_ms(cycle.ended_at), cycle.interval_s, cycle.timeout_s)
        extended = self._connection.execute(_EXTEND_POLL_SPAN, (*row, started_ms, self._max_gap_ms))
        if extended.rowcount == 0:
            self._connection.execute(_BEGIN_POLL_SPAN, (started_ms, *row))
        else:
            self._events.end_cycle(cycle, self._max_gap_ms / 1000)
