"""Compares each sample of a machine with the one before, and writes what changed as events."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from machines_server.core.identity import Identity, followed, identity
from machines_server.core.past.events import (
    Event,
    Uptime,
    host_event,
    reboot_event,
    status_event,
    uptime_of,
    verdict_of,
)
from machines_server.core.sample import Cycle, Sample, State
from machines_server.core.status import NOT_ASKED, Status
from machines_server.store.sql.budget import Budgets
from machines_server.store.sql.events import EventTable, to_ms

log = logging.getLogger(__name__)


class KnownBefore(Protocol):
    """What a database knows about machines from before this process wrote to it, by their ids."""

    def identities(self) -> Iterable[tuple[int, Identity]]:
        """The identity of each host that was ever reported."""

    def status(self, machine: int) -> str | None:
        """The type of the latest event about a status."""

    def uptime(self, machine: int) -> Uptime | None:
        """The latest time since its start that the host has reported."""


@dataclass(slots=True)
class _Last:
    """What was known about a machine after its latest sample, and when that was."""

    status: Status | None
    uptime: Uptime | None
    at: float = float("-inf")
    was_away: bool = True
    """Whether a sample since then had no uptime."""
    answered: frozenset[str] | None = None
    """The endpoints that answered, by kind; None before the first sample of this process."""
    outcomes: Mapping[str, tuple[State, str | None]] = field(default_factory=dict)
    """State and reason of each poll; equal ones give the same status."""
    identity: Identity | None = None


class MachineEvents:
    """Compares samples, and adds events within the transactions of a SampleWriter or a PollWriter."""

    def __init__(self, table: EventTable, budgets: Budgets, before: KnownBefore) -> None:
        self._table, self._budgets, self._before = table, budgets, before
        self._last: dict[int, _Last] = {}
        self._identities: dict[int, Identity] = {}

    def read_back(self) -> None:
        """Read the identities of hosts from the database."""
        self._last = {}
        self._identities = dict(self._before.identities())

    def forget(self, machine: int) -> None:
        """Forget a machine that was removed."""
        self._last.pop(machine, None)

    def add(self, machine: int, sample: Sample) -> None:
        """Add the events that follow from a sample."""
        last = self._last.get(machine) or self._last.setdefault(machine, self._read_last(machine))
        outcomes = {kind: (result.state, result.reason) for kind, result in sample.results.items()}
        if outcomes != last.outcomes:
            self._add_status(machine, sample, last)
            last.outcomes = outcomes
        result = sample.host_result
        if result and result.answer and result.answer.host:
            now = identity(result.endpoint.url, result.at, result.answer.host)
            self._add_host_change(machine, now, sample, last)
        self._add_reboot(machine, sample, last)
        last.at = sample.at

    def end_cycle(self, cycle: Cycle, max_gap_s: float) -> None:
        """Mark each machine as unknown that this server could not poll for over `max_gap_s`."""
        for machine, last in self._last.items():
            if last.status is not Status.UNKNOWN and cycle.ended_at - last.at > max_gap_s:
                detail = {"before": last.status, "reason": NOT_ASKED}
                self._table.add(machine, Event(cycle.ended_at, Status.UNKNOWN, detail))
                last.status, last.outcomes = Status.UNKNOWN, {}

    def _add_status(self, machine: int, sample: Sample, last: _Last) -> None:
        """Add an event for a new status; if an endpoint changes without one, only log that."""
        answered = frozenset(kind for kind, result in sample.results.items() if result.state is State.OK)
        if event := status_event(last.status, sample):
            self._add(machine, sample, event)
            last.status = Status(event.type)
        elif last.answered not in (None, answered):
            verdict = verdict_of(sample)
            log.info("machine %s: %s (%s)", sample.machine, verdict.status, verdict.reason or "-")
        last.answered = answered

    def _add_host_change(self, machine: int, now: Identity, sample: Sample, last: _Last) -> None:
        """Add an event for another host under the same name; its later start is then not a reboot."""
        before = last.identity
        last.identity = now if before is None else followed(before, now)
        change = before and host_event(sample.at, before, now)
        if change:
            last.identity, last.uptime = now, None
            if self._budgets.changes.take(machine, change.type, to_ms(sample.at)):
                self._add(machine, sample, change)

    def _add_reboot(self, machine: int, sample: Sample, last: _Last) -> None:
        now = uptime_of(sample)
        if now is None:
            last.was_away = True
            return
        reboot = reboot_event(last.uptime, now, was_away=last.was_away) if last.uptime else None
        if reboot and self._budgets.reboots.take(machine, reboot.type, to_ms(sample.at)):
            self._add(machine, sample, reboot)
        last.uptime, last.was_away = now, False

    def _add(self, machine: int, sample: Sample, event: Event) -> None:
        self._table.add(machine, event)
        log.info("machine %s: %s (%s)", sample.machine, event.type, event.detail.get("reason") or "-")

    def _read_last(self, machine: int) -> _Last:
        """Read what was known before this process started: a restart of this server is no event."""
        status = self._before.status(machine)
        return _Last(
            Status(status) if status in set(Status) else None,
            self._before.uptime(machine),
            identity=self._identities.get(machine),
        )
