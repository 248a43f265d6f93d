"""The status of a machine, from the latest polls and the clock."""

import itertools
from typing import NamedTuple

import pytest

from machines_server.core.machine import Endpoint
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
from tests.core.machines import BOTH, OLLAMA, SIDECAR


class Seen(NamedTuple):
    """How a poll ended."""

    state: State
    reason: str | None = None


OK = Seen(State.OK)
REFUSED = Seen(State.UNREACHABLE, "connection refused")
BUSY = Seen(State.BUSY, "no answer within 2 s on an open connection")
BROKEN = Seen(State.ERROR, "HTTP status 500")
UNASKED = Seen(State.UNASKED, "not asked")
NOW = 1_800_000_000.0
LIMIT_S = 12.0


@pytest.mark.parametrize(
    ("declared", "seen", "status"),
    [
        # sidecar answered
        (BOTH, {"sidecar": OK, "ollama": OK}, Status.ONLINE),
        (BOTH, {"sidecar": OK, "ollama": REFUSED}, Status.ONLINE),
        (BOTH, {"sidecar": OK, "ollama": BUSY}, Status.ONLINE),
        (BOTH, {"sidecar": OK, "ollama": BROKEN}, Status.ONLINE),
        (BOTH, {"sidecar": OK}, Status.ONLINE),
        ((SIDECAR,), {"sidecar": OK}, Status.ONLINE),
        # sidecar declared absent
        ((OLLAMA,), {"ollama": OK}, Status.ONLINE),
        ((OLLAMA,), {"ollama": REFUSED}, Status.OFFLINE),
        ((OLLAMA,), {"ollama": BUSY}, Status.OFFLINE),
        ((OLLAMA,), {"ollama": BROKEN}, Status.OFFLINE),
        ((OLLAMA,), {}, Status.UNKNOWN),
        # not asked, for lack of a credential: nothing is known of it
        (BOTH, {"sidecar": OK, "ollama": UNASKED}, Status.ONLINE),
        (BOTH, {"sidecar": REFUSED, "ollama": UNASKED}, Status.UNKNOWN),
        (BOTH, {"sidecar": UNASKED, "ollama": OK}, Status.UNKNOWN),
        (BOTH, {"sidecar": UNASKED, "ollama": UNASKED}, Status.UNKNOWN),
        ((OLLAMA,), {"ollama": UNASKED}, Status.UNKNOWN),
        # sidecar missed
        (BOTH, {"sidecar": REFUSED, "ollama": OK}, Status.DEGRADED),
        (BOTH, {"sidecar": BUSY, "ollama": OK}, Status.DEGRADED),
        (BOTH, {"sidecar": BROKEN, "ollama": OK}, Status.DEGRADED),
        (BOTH, {"sidecar": REFUSED, "ollama": REFUSED}, Status.OFFLINE),
        (BOTH, {"sidecar": REFUSED, "ollama": BUSY}, Status.OFFLINE),
        (BOTH, {"sidecar": BUSY, "ollama": BROKEN}, Status.OFFLINE),
        ((SIDECAR,), {"sidecar": REFUSED}, Status.OFFLINE),
        ((SIDECAR,), {"sidecar": BUSY}, Status.OFFLINE),
        # not polled yet
        (BOTH, {}, Status.UNKNOWN),
        (BOTH, {"sidecar": REFUSED}, Status.UNKNOWN),
        (BOTH, {"ollama": OK}, Status.UNKNOWN),
        (BOTH, {"ollama": REFUSED}, Status.UNKNOWN),
        ((SIDECAR,), {}, Status.UNKNOWN),
        # nothing to ask
        ((), {}, Status.OFFLINE),
    ],
)
def test_every_row_of_the_status_table(
    declared: tuple[Endpoint, ...], seen: dict[str, Seen], status: Status
) -> None:
    assert judge(declared, seen, None).status is status


def test_without_a_poller_nothing_is_known_whatever_was_seen() -> None:
    for one, other in itertools.product([None, OK, REFUSED, BUSY, BROKEN], repeat=2):
        seen = {kind: saw for kind, saw in (("sidecar", one), ("ollama", other)) if saw}
        for declared in (BOTH, (SIDECAR,), (OLLAMA,)):
            assert judge(declared, seen, "nobody polls") == Verdict(Status.UNKNOWN, "nobody polls")


def test_all_well_needs_no_reason_and_anything_else_has_one() -> None:
    for one, other in itertools.product([None, OK, REFUSED, BUSY, BROKEN], repeat=2):
        seen = {kind: saw for kind, saw in (("sidecar", one), ("ollama", other)) if saw}
        verdict = judge(BOTH, seen, None)
        assert verdict.reason != ""
        if verdict.status is not Status.ONLINE:
            assert verdict.reason
    assert judge(BOTH, {"sidecar": OK, "ollama": OK}, None).reason is None
    assert judge((OLLAMA,), {"ollama": OK}, None).reason is None


def test_the_reason_names_each_endpoint_that_missed() -> None:
    assert judge(BOTH, {"sidecar": REFUSED, "ollama": OK}, None).reason == "sidecar: connection refused"
    assert (
        judge(BOTH, {"sidecar": REFUSED, "ollama": BROKEN}, None).reason
        == "sidecar: connection refused; ollama: HTTP status 500"
    )
    assert (
        judge(BOTH, {"sidecar": REFUSED, "ollama": REFUSED}, None).reason
        == "sidecar and ollama: connection refused"
    )
    assert judge(BOTH, {"sidecar": OK, "ollama": REFUSED}, None).reason == "ollama: connection refused"
    assert judge(BOTH, {}, None).reason == "sidecar and ollama: not polled yet"
    assert judge(BOTH, {"sidecar": REFUSED}, None).reason == "ollama: not polled yet"
    assert "declared" in (judge((), {}, None).reason or "")


def test_a_machine_goes_offline_after_one_missed_poll_and_comes_back_with_one_answer() -> None:
    declared = (SIDECAR,)
    assert [judge(declared, {"sidecar": seen}, None).status for seen in (OK, REFUSED, OK)] == [
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
    assert judge((), {}, "nobody polls").status is Status.UNKNOWN
    assert judge((), {}, None).status is Status.OFFLINE
