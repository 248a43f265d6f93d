"""What may be said of a machine, from the latest polls and the clock."""

import itertools
from typing import NamedTuple

import pytest

from machines_server.core.registry import Endpoint
from machines_server.core.sample import Cycle, State
from machines_server.core.status import (
    PollerState,
    Status,
    Verdict,
    is_fresh,
    judge,
    judge_poller,
    too_old_after_s,
)


class Seen(NamedTuple):
    """How a poll ended."""

    state: State
    reason: str | None = None


SIDECAR, OLLAMA = Endpoint.SIDECAR, Endpoint.OLLAMA
BOTH = frozenset(Endpoint)
OK = Seen(State.OK)
REFUSED = Seen(State.UNREACHABLE, "connection refused")
BUSY = Seen(State.BUSY, "no answer within 2 s on an open connection")
BROKEN = Seen(State.ERROR, "HTTP status 500")
NOW = 1_800_000_000.0
LIMIT_S = 12.0


@pytest.mark.parametrize(
    ("declared", "seen", "status"),
    [
        # sidecar answered
        (BOTH, {SIDECAR: OK, OLLAMA: OK}, Status.ONLINE),
        (BOTH, {SIDECAR: OK, OLLAMA: REFUSED}, Status.ONLINE),
        (BOTH, {SIDECAR: OK, OLLAMA: BUSY}, Status.ONLINE),
        (BOTH, {SIDECAR: OK, OLLAMA: BROKEN}, Status.ONLINE),
        (BOTH, {SIDECAR: OK}, Status.ONLINE),
        ({SIDECAR}, {SIDECAR: OK}, Status.ONLINE),
        # sidecar declared absent
        ({OLLAMA}, {OLLAMA: OK}, Status.ONLINE),
        ({OLLAMA}, {OLLAMA: REFUSED}, Status.OFFLINE),
        ({OLLAMA}, {OLLAMA: BUSY}, Status.OFFLINE),
        ({OLLAMA}, {OLLAMA: BROKEN}, Status.OFFLINE),
        ({OLLAMA}, {}, Status.UNKNOWN),
        # sidecar missed
        (BOTH, {SIDECAR: REFUSED, OLLAMA: OK}, Status.DEGRADED),
        (BOTH, {SIDECAR: BUSY, OLLAMA: OK}, Status.DEGRADED),
        (BOTH, {SIDECAR: BROKEN, OLLAMA: OK}, Status.DEGRADED),
        (BOTH, {SIDECAR: REFUSED, OLLAMA: REFUSED}, Status.OFFLINE),
        (BOTH, {SIDECAR: REFUSED, OLLAMA: BUSY}, Status.OFFLINE),
        (BOTH, {SIDECAR: BUSY, OLLAMA: BROKEN}, Status.OFFLINE),
        ({SIDECAR}, {SIDECAR: REFUSED}, Status.OFFLINE),
        ({SIDECAR}, {SIDECAR: BUSY}, Status.OFFLINE),
        # not polled yet
        (BOTH, {}, Status.UNKNOWN),
        (BOTH, {SIDECAR: REFUSED}, Status.UNKNOWN),
        (BOTH, {OLLAMA: OK}, Status.UNKNOWN),
        (BOTH, {OLLAMA: REFUSED}, Status.UNKNOWN),
        ({SIDECAR}, {}, Status.UNKNOWN),
        # nothing to ask
        (frozenset(), {}, Status.OFFLINE),
    ],
)
def test_every_row_of_the_status_table(
    declared: frozenset[Endpoint], seen: dict[Endpoint, Seen], status: Status
) -> None:
    assert judge(frozenset(declared), seen, None).status is status


def test_without_a_poller_nothing_is_known_whatever_was_seen() -> None:
    for one, other in itertools.product([None, OK, REFUSED, BUSY, BROKEN], repeat=2):
        seen = {end: saw for end, saw in ((SIDECAR, one), (OLLAMA, other)) if saw}
        for declared in (BOTH, frozenset({SIDECAR}), frozenset({OLLAMA})):
            assert judge(declared, seen, "nobody polls") == Verdict(Status.UNKNOWN, "nobody polls")


def test_all_well_needs_no_reason_and_anything_else_has_one() -> None:
    for one, other in itertools.product([None, OK, REFUSED, BUSY, BROKEN], repeat=2):
        seen = {end: saw for end, saw in ((SIDECAR, one), (OLLAMA, other)) if saw}
        verdict = judge(BOTH, seen, None)
        assert verdict.reason != ""
        if verdict.status is not Status.ONLINE:
            assert verdict.reason
    assert judge(BOTH, {SIDECAR: OK, OLLAMA: OK}, None).reason is None
    assert judge(frozenset({OLLAMA}), {OLLAMA: OK}, None).reason is None


def test_the_reason_names_each_endpoint_that_missed() -> None:
    assert judge(BOTH, {SIDECAR: REFUSED, OLLAMA: OK}, None).reason == "sidecar: connection refused"
    assert (
        judge(BOTH, {SIDECAR: REFUSED, OLLAMA: BROKEN}, None).reason
        == "sidecar: connection refused; ollama: HTTP status 500"
    )
    assert judge(BOTH, {SIDECAR: OK, OLLAMA: REFUSED}, None).reason == "ollama: connection refused"
    assert judge(BOTH, {}, None).reason == "sidecar and ollama: not polled yet"
    assert judge(BOTH, {SIDECAR: REFUSED}, None).reason == "ollama: not polled yet"
    assert "declared" in (judge(frozenset(), {}, None).reason or "")


def test_a_machine_goes_offline_after_one_missed_poll_and_comes_back_with_one_answer() -> None:
    declared = frozenset({SIDECAR})
    assert [judge(declared, {SIDECAR: seen}, None).status for seen in (OK, REFUSED, OK)] == [
        "online",
        "offline",
        "online",
    ]


def test_a_poll_speaks_for_two_intervals_and_a_timeout() -> None:
    assert too_old_after_s(5, 2) == 12


@pytest.mark.parametrize(
    ("at", "fresh"),
    [
        (NOW, True),
        (NOW - LIMIT_S, True),
        (NOW - LIMIT_S - 0.1, False),
        (NOW + LIMIT_S, True),
        (NOW + LIMIT_S + 0.1, False),
        (0.0, False),
        (None, False),
    ],
)
def test_a_stamp_is_fresh_on_either_side_of_now(at: float | None, fresh: bool) -> None:
    assert is_fresh(at, NOW, LIMIT_S) is fresh


def cycle(ended_s_ago: float) -> Cycle:
    return Cycle(NOW - ended_s_ago - 1, NOW - ended_s_ago, 5, 2)


@pytest.mark.parametrize(
    ("ended_s_ago", "leads_for_s", "state"),
    [
        (1, 100, "running"),
        (12, 100, "running"),
        (13, 100, "stalled"),
        (13, 12, "running"),  # it has only just taken over
        (13, None, "stopped"),
        (1, None, "running"),  # a standing-by process takes over any moment
        (None, 1, "running"),
        (None, 13, "stalled"),
        (None, None, "stopped"),
        (-1, 100, "running"),
        (-3600, 1, "running"),  # the clock was set back by an hour
        (-3600, -3600, "stalled"),
        (-3600, None, "stopped"),
    ],
)
def test_the_poller_runs_while_cycles_end_and_somebody_leads(
    ended_s_ago: float | None, leads_for_s: float | None, state: str
) -> None:
    judged = judge_poller(
        None if ended_s_ago is None else cycle(ended_s_ago),
        None if leads_for_s is None else NOW - leads_for_s,
        NOW,
        LIMIT_S,
    )
    assert judged.state == state
    assert (judged.fault is None) == (state == "running")


def test_what_is_wrong_with_the_poller_is_one_sentence_with_the_last_cycle() -> None:
    assert judge_poller(cycle(60), None, NOW, LIMIT_S) == PollerState(
        "stopped", "no poller is running; the last poll cycle ended at 2027-01-15T07:59:00.000Z"
    )
    assert judge_poller(None, NOW - 60, NOW, LIMIT_S) == PollerState(
        "stalled", "the poller is stalled; no poll cycle has ended yet"
    )


def test_while_nobody_polls_a_machine_without_endpoints_is_not_offline_either() -> None:
    assert judge(frozenset(), {}, "nobody polls").status is Status.UNKNOWN
    assert judge(frozenset(), {}, None).status is Status.OFFLINE
