"""online, degraded, offline or unknown: the status of a machine, from its latest polls and the clock."""

from collections.abc import Collection, Container, Iterable, Mapping
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from machines_server.core.machine import Endpoint
from machines_server.core.sample import Cycle, State
from machines_server.core.times import rfc3339

NOT_YET, NOT_ASKED = "not polled yet", "this server could not poll it"

BUSY_GRACE_S = 60.0
"""How long the last model list of a busy model server stays valid."""


class Status(StrEnum):
    """The status of a machine."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class Ended(Protocol):
    """How the latest poll of one endpoint ended."""

    @property
    def state(self) -> State:
        """The outcome."""

    @property
    def reason(self) -> str | None:
        """Why, in a sentence; None for a good answer without oddities."""


class Verdict(NamedTuple):
    """The status of a machine and, unless all is well, one sentence that says why."""

    status: Status
    reason: str | None = None


def too_old_after_s(interval_s: float, timeout_s: float) -> float:
    """The age in seconds beyond which a poll, or a finished cycle, says nothing about the present."""
    return 2 * interval_s + timeout_s


def is_fresh(at: float | None, now: float, limit_s: float) -> bool:
    """Return whether `at` is within `limit_s` of `now`, before or after it: wall clocks are also set back."""
    return at is not None and abs(now - at) <= limit_s


class PollerState(NamedTuple):
    """running, stalled or stopped; unless it is running, `fault` says why in one sentence."""

    state: Literal["running", "stalled", "stopped"]
    fault: str | None = None


def judge_poller(cycle: Cycle | None, leads_since: float | None, now: float, limit_s: float) -> PollerState:
    """The state of the poller, from the latest finished cycle and the time since which the lock is held."""
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
    declared: Collection[Endpoint],
    seen: Mapping[str, Ended],
    poller_fault: str | None,
    before: Container[str] = (),
) -> Verdict:
    """The status of a machine that has the `declared` endpoints.

    `seen` has, by kind, the latest poll of each endpoint that is recent enough to count. `poller_fault` says
    why nobody polls, if nobody does; `before` has the kinds that were ever polled. An endpoint that is
    busy did not answer.
    """
    if poller_fault:
        return Verdict(Status.UNKNOWN, poller_fault)
    if not declared:
        return Verdict(Status.OFFLINE, "neither a sidecar nor Ollama is declared for this machine")
    polled = [(one, seen[one.kind]) for one in declared if one.kind in seen]
    odd = [
        (one.kind, str(ended.reason)) for one, ended in polled if ended.state is not State.OK or ended.reason
    ]
    reason = _join_reasons(odd) if odd else ""
    answered = [one for one, ended in polled if ended.state is State.OK]
    for one in answered:
        if one.reports_host:
            return Verdict(Status.ONLINE, reason or None)
    if waiting := [one.kind for one in declared if one.kind not in seen]:
        return Verdict(Status.UNKNOWN, _why_waiting(waiting, before))
    if any(ended.state is State.UNASKED for _, ended in polled):
        return Verdict(Status.UNKNOWN, reason)
    if not answered:
        return Verdict(Status.OFFLINE, reason)
    if any(one.reports_host for one in declared):
        return Verdict(Status.DEGRADED, reason)
    return Verdict(Status.ONLINE, reason or None)


def _why_waiting(waiting: Collection[str], before: Container[str]) -> str:
    """Why there is no recent poll of these kinds."""
    never = [kind for kind in waiting if kind not in before]
    not_lately = [kind for kind in waiting if kind in before]
    return _join_reasons([*((kind, NOT_YET) for kind in never), *((kind, NOT_ASKED) for kind in not_lately)])


def _join_reasons(reasons: Iterable[tuple[str, str]]) -> str:
    """The reasons of kinds in one sentence, which states a shared reason only once."""
    kinds_by_reason: dict[str, list[str]] = {}
    for kind, reason in reasons:
        kinds_by_reason.setdefault(reason, []).append(kind)
    return "; ".join(f"{' and '.join(kinds)}: {reason}" for reason, kinds in kinds_by_reason.items())
