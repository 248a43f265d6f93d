"""Writes changes in the state of services on hosts, and their events."""

import logging
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from machines_server.core.host_services import OWN_HOST, PolledService, ServiceResult, ServiceStatus
from machines_server.core.machine import Registry
from machines_server.core.past.events import service_event
from machines_server.store.sql.budget import Budgets
from machines_server.store.sql.events import EventTable, to_ms

_STATUS_BY_NAME = {str(status): status for status in ServiceStatus}

log = logging.getLogger(__name__)


class ServiceRow(NamedTuple):
    """A service of a machine (its case-folded name), and the last status that an event reported, if any."""

    machine: str
    name: str
    service: PolledService
    told: str | None


class ServiceTable(Protocol):
    """The table of services, used within the writer's transactions."""

    def read(self) -> list[ServiceRow]:
        """All rows."""

    def set(self, row: ServiceRow) -> None:
        """Write a row; without a reported status, it keeps the previous one."""

    def delete(self, machine: str, name: str) -> None:
        """Delete a row."""

    def forget_statuses(self, since: float) -> None:
        """Set every status to unknown, since that time (epoch seconds)."""


class ServiceRows:
    """Follows the services of all machines, within the transactions of a SampleWriter or a PollWriter."""

    def __init__(self, table: ServiceTable, events: EventTable, budgets: Budgets) -> None:
        self._table, self._events, self._budgets = table, events, budgets
        self._rows: dict[str, dict[str, PolledService]] = {}
        self._known: dict[tuple[str, str], str | None] = {}
        self._are_of_this_process = False

    def read_back(self) -> None:
        """Read the rows from the database."""
        self._are_of_this_process = False
        rows = self._table.read()
        self._rows = by_machine(rows)
        self._known = {(row.machine, row.name): row.told for row in rows}

    def set(self, machine: int | None, result: ServiceResult) -> None:
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
        self._table.set(ServiceRow(key, service.name, row, known))
        rows[service.name] = row
        if known and known != self._known.get((key, service.name)):
            self._known[key, service.name] = known
            self._add_event(machine, result)

    def _add_event(self, machine: int | None, result: ServiceResult) -> None:
        event = service_event(result)
        if machine is None:
            log.info("this host: %s: %s (%s)", event.type, result.service.name, result.reason or "-")
        elif self._budgets.services.take(machine, event.type, to_ms(result.at)):
            self._events.add(machine, event)
            name, reason = result.service.name, result.reason or "-"
            log.info("machine %s: %s: %s (%s)", result.machine, event.type, name, reason)

    def keep_declared(self, registry: Registry) -> None:
        """Delete the services that no machine declares any more.

        The first call marks the others as unknown: earlier observations say nothing about the present.
        """
        if not self._are_of_this_process:
            self._table.forget_statuses(registry.loaded_at)
            self._rows = by_machine(self._table.read())
            self._are_of_this_process = True
        for key, rows in self._rows.items():
            machine = registry.get(key)
            if key == OWN_HOST or (machine is None and not registry.is_whole):
                continue
            declared = {service.name for service in machine.services} if machine else set()
            for name in rows.keys() - declared:
                del rows[name]
                self._known.pop((key, name), None)
                self._table.delete(key, name)


def by_machine(rows: Iterable[ServiceRow]) -> dict[str, dict[str, PolledService]]:
    """The services of each machine by name."""
    services: dict[str, dict[str, PolledService]] = {}
    for row in rows:
        services.setdefault(row.machine, {})[row.name] = row.service
    return services


def status_named(text: str) -> ServiceStatus:
    """A status from a database; an invalid one is unknown."""
    return _STATUS_BY_NAME.get(text, ServiceStatus.UNKNOWN)
