"""The state of all machines at one moment, from their files, their latest polls and the clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from machines_server.core.host_services import OWN_HOST, PolledService
from machines_server.core.machine import Machine, Registry
from machines_server.core.routing.fleet import Fleet
from machines_server.core.snapshot import Latest, Snapshot
from machines_server.core.state import MachineState, changes_at, machine_state
from machines_server.core.status import is_fresh
from machines_server.services.poller import PollerReport

POLLER_RECHECK_S = 1.0
"""How long a state is valid while no cycle ends, since only the lock shows that polling has begun."""
_NO_POLLS: Mapping[str, Latest] = {}


_NO_SERVICES: Mapping[str, PolledService] = {}
Origin = tuple[Machine, Mapping[str, Latest], bool, Mapping[str, PolledService]]
"""A machine, its latest polls, whether the last model that it loaded took GPU memory, and its services."""


class Judged(NamedTuple):
    """The state of a machine, what it was made from, and when time alone changes it (epoch seconds)."""

    state: MachineState
    origin: Origin
    changes_at: float


@dataclass(frozen=True, slots=True, eq=False)
class FleetState:
    """All machines at `built_at`; after `valid_until` the passing of time alone may change the state.

    Both are epoch seconds. `read_fault` is why the database could not be read, or None; `failures` are the
    machines whose state could not be determined, and why; `judged` are the others, by name.
    """

    fleet: Fleet
    registry: Registry
    poller: PollerReport
    built_at: float
    valid_until: float
    read_fault: str | None = None
    failures: Sequence[tuple[Machine, Exception]] = ()
    judged: Mapping[str, Judged] = field(default_factory=dict)
    own_services: Mapping[str, PolledService] = field(default_factory=dict)
    """What polls have shown of the services of the server's own host, by name."""
    checked_at: float | None = None
    """When the latest cycle ended."""

    def is_valid(self, now: float) -> bool:
        """Whether the state is valid at `now`, which may lie before `built_at` if the clock was set back."""
        return self.built_at <= now < self.valid_until


def build_state(
    registry: Registry,
    snapshot: Snapshot,
    poller: PollerReport,
    now: float,
    read_fault: str | None = None,
    before: FleetState | None = None,
) -> FleetState:
    """The state at `now`; a machine whose state cannot be determined is unknown and affects no other.

    The state `before` saves work: what has not changed since, the whole fleet or its machines, are the same
    objects.
    """
    cycle, max_age_s = snapshot.cycle, poller.max_poll_age_s
    valid_until = now + POLLER_RECHECK_S
    if cycle and is_fresh(cycle.ended_at, now, max_age_s):
        valid_until = cycle.ended_at + max_age_s
    known = before.judged if before and _is_comparable(before, poller, now) else {}
    judged, failures = dict[str, Judged](), list[tuple[Machine, Exception]]()
    states = list[MachineState]()
    for machine in registry:
        key = machine.name.casefold()
        polls, services = snapshot.latest.get(key, _NO_POLLS), snapshot.services.get(key, _NO_SERVICES)
        origin = machine, polls, key in snapshot.vram_users, services
        one = known.get(key)
        try:
            if one is None or one.origin != origin or now >= one.changes_at:
                one = _judged(origin, poller, now)
        except Exception as error:  # noqa: BLE001  the caller logs them
            failures.append((machine, error))
            states.append(unreadable(machine))
        else:
            judged[key] = one
            states.append(one.state)
            valid_until = min(valid_until, one.changes_at)
    fleet = Fleet(
        states=tuple(states),
        libraries=snapshot.libraries,
        sizes=snapshot.sizes,
        held_since=snapshot.held_since,
        absent_at=snapshot.absent_at,
        interval_s=poller.shown.interval_s,
        is_polled=poller.fault is None,
    )
    if before and before.fleet == fleet:
        fleet = before.fleet
    return FleetState(
        fleet=fleet,
        registry=registry,
        poller=poller,
        built_at=now,
        valid_until=valid_until,
        read_fault=read_fault,
        failures=failures,
        judged=judged,
        own_services=snapshot.services.get(OWN_HOST, _NO_SERVICES),
        checked_at=cycle.ended_at if cycle else None,
    )


def _judged(origin: Origin, poller: PollerReport, now: float) -> Judged:
    machine, polls, used_vram, services = origin
    limit_s = poller.max_poll_age_s
    live = machine_state(machine, polls, poller.fault, now, limit_s, used_vram=used_vram, services=services)
    return Judged(live, origin, changes_at(polls, now, limit_s))


def _is_comparable(before: FleetState, poller: PollerReport, now: float) -> bool:
    """Whether what was judged before is judged the same way now."""
    return (
        before.built_at <= now
        and before.poller.fault == poller.fault
        and before.poller.max_poll_age_s == poller.max_poll_age_s
    )


def unreadable(machine: Machine) -> MachineState:
    """The state of a machine whose state cannot be determined."""
    return machine_state(
        machine, _NO_POLLS, "this server failed to read its polls; its log says why", 0.0, 0.0
    )
