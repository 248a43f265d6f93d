"""Limits on the leases of every store: how many there may be, and how long ended ones are kept."""

from collections.abc import Sequence

from machines_server.core.routing.leases import Lease
from machines_server.core.text import quoted
from machines_server.errors import ConflictError, TooManyError
from machines_server.store.values import LeaseRequest

MAX_LEASES, MAX_LEASES_PER_HOLDER = 10_000, 1000
"""The second applies to a client's address if no holder is named."""
KEEP_RELEASED_S = 10.0
"""How long a lease is kept that ended before a sample showed its model."""
COUNT_EXPIRED_S = 600.0
"""How long an expired lease is counted."""
MAX_SNAPSHOT_AGE_S = 1.0
"""A snapshot this old is made again even if nothing was written, since leases have less time left."""


def too_many_of_holder(request: LeaseRequest, count: int, wait_s: float) -> TooManyError:
    """The error for a holder at the limit, whose first lease ends in `wait_s`."""
    holder = quoted(request.holder) if request.holder else f"{request.address}, which names no holder,"
    return _too_many(f"{holder} has", count, wait_s)


def too_many_in_all(count: int, wait_s: float) -> TooManyError:
    """The error if all holders together are at the limit and the first lease ends in `wait_s`."""
    return _too_many("All agents have", count, wait_s)


def refuse_another_request(request: LeaseRequest, digest: bytes | None, agent: str | None) -> None:
    """Raise ConflictError unless the request is the one with that digest, by that agent."""
    if digest not in (None, request.digest) or agent != request.agent:
        raise ConflictError(
            "idempotency_conflict",
            "This Idempotency-Key was used for another request; use a new one for each lease.",
        )


def valid_s(leases: Sequence[Lease]) -> float:
    """How long a snapshot with these leases may be returned if nothing is written."""
    return min([MAX_SNAPSHOT_AGE_S, *(lease.ends_in_s for lease in leases)]) if leases else float("inf")


def _too_many(subject: str, count: int, wait_s: float) -> TooManyError:
    message = f"{subject} {count} leases, which is the limit: release some, or wait until some end."
    return TooManyError("too_many_leases", message, wait_s)
