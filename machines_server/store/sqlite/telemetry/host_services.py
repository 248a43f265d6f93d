"""Writes the state of services on hosts when it changes, and the events of it."""

import logging
import sqlite3

from machines_server.core.host_services import OWN_HOST, PolledService, ServiceResult, ServiceStatus
from machines_server.core.machine import Registry
from machines_server.core.past.events import service_event
from machines_server.core.times import checked_time
from machines_server.store.sqlite.telemetry.budget import Budgets
from machines_server.store.sqlite.telemetry.events import add_event, to_ms

_ALL_SERVICES = "SELECT machine, name, url, status, reason, since_ms / 1000.0 FROM host_service"
_LAST_TOLD = "SELECT machine, name, known FROM host_service"
_FORGET_STATUS = "UPDATE host_service SET status = 'unknown', reason = NULL, since_ms = ?, revision = ?"
_SET = """
INSERT INTO host_service (machine, name, url, status, reason, since_ms, known, revision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (machine, name) DO UPDATE SET
    url = excluded.url, status = excluded.status, reason = excluded.reason, since_ms = excluded.since_ms,
    known = coalesce(excluded.known, known), revision = excluded.revision"""
_STATUS_BY_NAME = {str(status): status for status in ServiceStatus}

log = logging.getLogger(__name__)


class ServiceRows:
    """Follows the services of all machines, within the transactions of a SampleWriter."""

    def __init__(self, connection: sqlite3.Connection, budgets: Budgets) -> None:
        self._connection, self._budgets = connection, budgets
        self._rows: dict[str, dict[str, PolledService]] = {}
        self._known: dict[tuple[str, str], str | None] = {}
        self._are_of_this_process = False

    def read_back(self) -> None:
        """Read the rows from the database."""
        self._are_of_this_process = False
        self._rows = read_services(self._connection)
        self._known = {
            (machine.casefold(), name): known for machine, name, known in self._connection.execute(_LAST_TOLD)
        }

    def set(self, machine: int | None, result: ServiceResult, revision: int) -> None:
        """Write a result, if it changes anything; `machine` is the id of its machine, None for OWN_HOST."""
        key, service = result.machine.casefold(), result.service
        rows = self._rows.setdefault(key, {})
        before = rows.get(service.name)
        is_same = before is not None and (before.url, before.status) == (service.url, result.status)
        since = before.since if before and is_same else result.at
        row = PolledService(service.url, result.status, result.reason, since)
        if row == before:
            return
        known = None if result.status is ServiceStatus.UNKNOWN else result.status.value
        values = (result.machine, service.name, *row[:3], to_ms(since), known, revision)
        self._connection.execute(_SET, values)
        rows[service.name] = row
        if known and known != self._known.get((key, service.name)):
            self._known[key, service.name] = known
            self._add_event(machine, result)

    def _add_event(self, machine: int | None, result: ServiceResult) -> None:
        event = service_event(result)
        if machine is None:
            log.info("this host: %s: %s (%s)", event.type, result.service.name, result.reason or "-")
        elif self._budgets.services.take(machine, event.type, to_ms(result.at)):
            add_event(self._connection, machine, event)
            name, reason = result.service.name, result.reason or "-"
            log.info("machine %s: %s: %s (%s)", result.machine, event.type, name, reason)

    def keep_declared(self, registry: Registry, revision: int) -> None:
        """Delete the services that no machine declares any more.

        The first call marks the others as unknown: what was seen before says nothing of the present.
        """
        if not self._are_of_this_process:
            self._connection.execute(_FORGET_STATUS, (to_ms(registry.loaded_at), revision))
            self._rows = read_services(self._connection)
            self._are_of_this_process = True
        for key, rows in self._rows.items():
            machine = registry.get(key)
            if key == OWN_HOST or (machine is None and not registry.is_whole):
                continue
            declared = {service.name for service in machine.services} if machine else set()
            for name in rows.keys() - declared:
                del rows[name]
                self._known.pop((key, name), None)
                self._connection.execute(
                    "DELETE FROM host_service WHERE machine = ? AND name = ?", (key, name)
                )


def read_services(connection: sqlite3.Connection) -> dict[str, dict[str, PolledService]]:
    """The services of each machine by name; raises ValueError for a damaged row."""
    services: dict[str, dict[str, PolledService]] = {}
    for machine, name, url, status, reason, since in connection.execute(_ALL_SERVICES):
        known = _STATUS_BY_NAME.get(status, ServiceStatus.UNKNOWN)
        row = PolledService(url, known, reason, checked_time(since))
        services.setdefault(machine.casefold(), {})[name] = row
    return services
