"""The state of all machines is a function of files, polls and the clock."""

from dataclasses import replace
from typing import Any

import pytest

from machines_server.contract.health import Poller
from machines_server.core.machine import Machine, Registry
from machines_server.core.routing.fleet import Fleet
from machines_server.core.sample import Cycle, HostSample, Library, RuntimeState, State, StoredModel
from machines_server.core.snapshot import Latest, Snapshot
from machines_server.core.status import Status
from machines_server.services.fleet_state import POLLER_RECHECK_S, build_state
from machines_server.services.poller import PollerReport
from tests.core.machines import a_machine

SIDECAR = "sidecar"
NOW, MAX_AGE_S = 1_800_000_000.0, 12.0
ONE, TWO = a_machine("one"), a_machine("two")
REGISTRY = Registry((ONE, TWO))
RUNNING = Poller("running", None, 5.0, None, None)


def answered(machine: Machine, at: float) -> dict[str, Latest]:
    """The latest poll of a machine's sidecar."""
    answer = RuntimeState(host=HostSample(cpu_percent=1.0))
    return {SIDECAR: Latest(machine.endpoints[SIDECAR].url, State.OK, None, at, at, answer)}


def report(fault: str | None = None) -> PollerReport:
    return PollerReport(RUNNING, fault, MAX_AGE_S)


def test_the_same_arguments_give_the_same_state() -> None:
    snapshot = Snapshot(latest={"one": answered(ONE, NOW - 1)}, cycle=Cycle(NOW - 2, NOW - 1, 5, 2))
    first, second = (build_state(REGISTRY, snapshot, report(), NOW) for _ in range(2))
    assert [state.verdict for state in first.fleet.states] == [state.verdict for state in second.fleet.states]
    assert [state.verdict.status for state in first.fleet.states] == [Status.ONLINE, Status.UNKNOWN]
    assert (first.valid_until, first.registry) == (second.valid_until, REGISTRY)


def test_the_fleet_stays_the_same_until_something_in_it_changes() -> None:
    libraries = {"one": Library("one", ONE.url, NOW, (StoredModel("m"),))}
    snapshot = Snapshot(
        latest={"one": answered(ONE, NOW - 1)}, cycle=Cycle(NOW - 2, NOW - 1, 5, 2), libraries=libraries
    )
    before = build_state(REGISTRY, snapshot, report(), NOW)

    def after(now: float = NOW, fault: str | None = None, **changes: Any) -> Fleet:
        return build_state(REGISTRY, replace(snapshot, **changes), report(fault), now, before=before).fleet

    assert after(cycle=Cycle(NOW - 1, NOW, 5, 2)) is before.fleet
    assert after(libraries=dict(libraries)) is before.fleet
    assert after(libraries={}) is not before.fleet
    assert after(held_since={"one": {"m": NOW}}) is not before.fleet
    assert after(latest={"one": answered(ONE, NOW)}) is not before.fleet
    assert after(fault="no poller is running") is not before.fleet
    assert after(now=NOW + 2 * MAX_AGE_S) is not before.fleet


def test_a_state_is_valid_until_a_poll_or_the_cycle_becomes_too_old() -> None:
    cycle = Cycle(NOW - 2, NOW - 1, 5, 2)
    by_cycle = build_state(REGISTRY, Snapshot(latest={"one": answered(ONE, NOW)}, cycle=cycle), report(), NOW)
    assert by_cycle.valid_until == cycle.ended_at + MAX_AGE_S
    older = Snapshot(latest={"one": answered(ONE, NOW - 5)}, cycle=cycle)
    by_poll = build_state(REGISTRY, older, report(), NOW)
    assert by_poll.valid_until == NOW - 5 + MAX_AGE_S
    assert by_poll.is_valid(NOW)
    assert not by_poll.is_valid(by_poll.valid_until)
    assert not by_poll.is_valid(NOW - 1)  # the clock was set back


def test_while_no_cycle_ends_the_poller_is_looked_at_again_soon() -> None:
    assert build_state(REGISTRY, Snapshot(), report(), NOW).valid_until == NOW + POLLER_RECHECK_S


def test_nothing_is_known_while_nobody_polls() -> None:
    snapshot = Snapshot(latest={"one": answered(ONE, NOW - 1)})
    state = build_state(REGISTRY, snapshot, report("no poller is running"), NOW)
    assert {one.verdict.status for one in state.fleet.states} == {Status.UNKNOWN}
    assert state.fleet.states[0].verdict.reason == "no poller is running"
    assert not state.fleet.is_polled


def test_a_machine_whose_state_cannot_be_told_is_a_failure_and_affects_no_other() -> None:
    never: Any = "never"
    damaged = {SIDECAR: answered(TWO, NOW)[SIDECAR]._replace(polled_at=never)}
    snapshot = Snapshot(latest={"one": answered(ONE, NOW), "two": damaged})
    state = build_state(REGISTRY, snapshot, report(), NOW)
    assert [one.verdict.status for one in state.fleet.states] == [Status.ONLINE, Status.UNKNOWN]
    ((machine, failure),) = state.failures
    assert (machine, type(failure)) == (TWO, TypeError)


def test_a_machine_for_which_nothing_changed_keeps_its_state() -> None:
    polls = {"one": answered(ONE, NOW - 5), "two": answered(TWO, NOW - 1)}
    before = build_state(REGISTRY, Snapshot(latest=polls), report(), NOW)
    polled = Snapshot(latest=polls | {"two": answered(TWO, NOW)})
    after = build_state(REGISTRY, polled, report(), NOW + 1, before=before)
    assert after.fleet.states[0] is before.fleet.states[0]
    assert after.fleet.states[1].sampled_at == NOW
    assert after.valid_until == NOW + 1 + POLLER_RECHECK_S


@pytest.mark.parametrize(
    ("now", "fault", "registry"),
    [
        (NOW + MAX_AGE_S, None, REGISTRY),
        (NOW - 1, None, REGISTRY),
        (NOW + 1, "no poller is running", REGISTRY),
        (NOW + 1, None, Registry((a_machine("one"),))),
    ],
    ids=["its poll is too old", "the clock was set back", "nobody polls", "its file changed"],
)
def test_no_state_is_kept_that_would_be_judged_differently(
    now: float, fault: str | None, registry: Registry
) -> None:
    snapshot = Snapshot(latest={"one": answered(ONE, NOW - 5)})
    before = build_state(REGISTRY, snapshot, report(), NOW)
    kept = build_state(registry, snapshot, report(fault), now, before=before)
    anew = build_state(registry, snapshot, report(fault), now)
    assert kept.fleet.states[0] is not before.fleet.states[0]
    assert kept.fleet.states[0].verdict == anew.fleet.states[0].verdict
    assert kept.valid_until == anew.valid_until
