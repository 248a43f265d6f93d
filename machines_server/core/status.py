"""online, degraded, offline or unknown: what the latest polls and the clock allow us to say of a machine."""

from collections.abc import Container, Mapping, Set
from enum import StrEnum
from typing import NamedTuple, Protocol

from machines_server.core.registry import Endpoint
from machines_server.core.sample import Cycle, State
from machines_server.core.times import rfc3339

NOT_YET, NOT_ASKED = "not polled yet", "this server could not ask it"
_ENDPOINTS = tuple(Endpoint)

BUSY_GRACE_S = 60.0
"""How long a busy Ollama's last model list stands."""


class Status(StrEnum):
    """What is said of a machine."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class Ended(Protocol):
    """How the latest poll of one endpoint ended."""

    @property
    def state(self) -> State:
        """In one word."""

    @property
    def reason(self) -> str | None:
        """In a sentence, unless it was answered."""


class Verdict(NamedTuple):
    """The status of a machine and, unless all is well, one sentence why."""

    status: Status
    reason: str | None = None


def too_old_after_s(interval_s: float, timeout_s: float) -> float:
    """How long a poll, or a finished cycle, speaks for the present."""
    return 2 * interval_s + timeout_s


def is_fresh(at: float | None, now: float, limit_s: float) -> bool:
    """Whether `at` lies within `limit_s` of `now`; on either side, since wall clocks are set back too."""
    return at is not None and abs(now - at) <= limit_s


class PollerState(NamedTuple):
    """running, stalled or stopped; unless it runs, `fault` is one sentence for it."""

    state: str
    fault: str | None = None


def judge_poller(cycle: Cycle | None, leads_since: float | None, now: float, limit_s: float) -> PollerState:
    """Whether somebody polls, from the latest finished cycle and since when a process has had the lock."""
    if cycle is not None and is_fresh(cycle.ended_at, now, limit_s):
        return PollerState("running")
    last = (
        f"the last poll cycle ended at {rfc3339(cycle.ended_at)}" if cycle else "no poll cycle has ended yet"
    )
    if leads_since is None:
        return PollerState("stopped", f"no poller is running; {last}")
    if is_fresh(leads_since, now, limit_s):
        return PollerState("running")
    return PollerState("stalled", f"the poller is stalled; {last}")


def judge(
    declared: Set[Endpoint],
    seen: Mapping[Endpoint, Ended],
    poller_fault: str | None,
    before: Container[Endpoint] = (),
) -> Verdict:
    """The status of a machine that has the `declared` endpoints.

    `seen` holds the latest poll of each endpoint, without those that are too old to speak for the present.
    `poller_fault` says why nobody polls, if nobody does; `before` are endpoints that were polled at any time.
    An endpoint that is busy did not answer.
    """
    if poller_fault:
        return Verdict(Status.UNKNOWN, poller_fault)
    if not declared:
        return Verdict(Status.OFFLINE, "neither a sidecar nor Ollama is declared for this machine")
    reason = "; ".join(
        f"{endpoint}: {seen[endpoint].reason}"
        for endpoint in _ENDPOINTS
        if endpoint in seen and seen[endpoint].state is not State.OK
    )
    if _answered(seen, Endpoint.SIDECAR):
        return Verdict(Status.ONLINE, reason or None)
    if waiting := [endpoint for endpoint in Endpoint if endpoint in declared - seen.keys()]:
        why = "; ".join(
            f"{' and '.join(some)}: {reason}"
            for reason, some in (
                (NOT_YET, [endpoint for endpoint in waiting if endpoint not in before]),
                (NOT_ASKED, [endpoint for endpoint in waiting if endpoint in before]),
            )
            if some
        )
        return Verdict(Status.UNKNOWN, why)
    if not _answered(seen, Endpoint.OLLAMA):
        return Verdict(Status.OFFLINE, reason)
    if Endpoint.SIDECAR in declared:
        return Verdict(Status.DEGRADED, reason)
    return Verdict(Status.ONLINE)


def _answered(seen: Mapping[Endpoint, Ended], endpoint: Endpoint) -> bool:
    return endpoint in seen and seen[endpoint].state is State.OK
