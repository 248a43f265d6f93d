"""Leases as they are answered, with what each promises, given all others."""

import time
from collections.abc import Sequence

from machines_server.contract.leases import HeldLease
from machines_server.contract.leases import held_lease as answer_of
from machines_server.core.memory import Share
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, promised_shares


def held_leases(leases: Sequence[Lease], fleet: Fleet) -> list[HeldLease]:
    """All leases, the first to end first."""
    shares, now = _promised_now(leases, fleet), time.time()
    return [
        answer_of(lease, shares[lease.id], fleet.state_of(lease.machine), now)
        for lease in sorted(leases, key=lambda lease: (lease.ends_in_s, lease.id))
    ]


def held_lease(lease: Lease, leases: Sequence[Lease], fleet: Fleet) -> HeldLease:
    """A lease with what it promises given all `leases`; promises nothing if it is not among them."""
    shares = _promised_now(leases, fleet)
    state = fleet.state_of(lease.machine)
    return answer_of(lease, shares.get(lease.id, ()), state, time.time())


def _promised_now(leases: Sequence[Lease], fleet: Fleet) -> dict[str, tuple[Share, ...]]:
    """What each lease promises now, by its id."""
    by_machine: dict[str, list[Lease]] = {}
    for lease in leases:
        by_machine.setdefault(lease.machine.casefold(), []).append(lease)
    shares_by_lease = {}
    for name, here in by_machine.items():
        state = fleet.state_of(name)
        for lease, shares in promised_shares(here, state, fleet.held_since_on(state) if state else {}):
            shares_by_lease[lease.id] = shares
    return shares_by_lease
