"""Leases as a test reserves them."""

from collections.abc import Callable
from typing import Any

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.store.api import Leases
from machines_server.store.values import LeaseRequest, LeaseSnapshot
from tests.core.routing.fleets import a_fleet, a_live, a_model, ask

WARM = a_fleet(a_live("one", [10], [a_model()]))


def first(fleet: Fleet, **question: Any) -> Callable[[LeaseSnapshot], Candidate]:
    """Chooses the best machine of a fleet in view of all leases."""

    def choose(known: LeaseSnapshot) -> Candidate:
        leases = *known.leases, *known.released
        return ask(fleet, *leases, load_times=known.load_times, **question).candidates[0]

    return choose


def reserve(
    leases: Leases,
    fleet: Fleet = WARM,
    *,
    ttl_s: float = 60,
    key: str | None = None,
    text: str = "t",
    holder: str = "me",
    address: str = "192.0.2.1",
    **question: Any,
) -> Lease:
    request = LeaseRequest(holder, ttl_s, address, key, text.encode())
    return leases.reserve(fleet, request, first(fleet, **question))
