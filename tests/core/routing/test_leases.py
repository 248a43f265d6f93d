"""When a lease is broken: by its machine, not by a single missed poll."""

from dataclasses import replace
from typing import Any

import pytest

from machines_server.core.machine import Endpoint
from machines_server.core.memory import RAM, Share
from machines_server.core.routing.leases import Lease, Warmth, broken_reason, promised_shares
from machines_server.core.sample import State
from machines_server.core.state import MachineState
from machines_server.core.status import Status
from tests.core.routing.fleets import NOW, a_lease, a_live


def without_ollama(state: State | None, seen_ago_s: float | None, **changes: object) -> MachineState:
    """A machine whose Ollama last answered so long ago."""
    live = replace(a_live("one"), ollama=state, ollama_reason="connection refused")
    return replace(live, ollama_seen_at=None if seen_ago_s is None else NOW - seen_ago_s, **changes)  # type: ignore[arg-type]  # any field


OLD = a_lease("one", age_s=600)


@pytest.mark.parametrize("state", [State.UNREACHABLE, State.ERROR])
def test_an_ollama_may_be_gone_for_a_minute(state: State) -> None:
    assert broken_reason(OLD, without_ollama(state, 2), NOW) is None
    assert broken_reason(OLD, without_ollama(state, 59), NOW) is None
    assert broken_reason(OLD, without_ollama(state, 61), NOW) == (
        "its Ollama has not answered for over 60 s (connection refused)"
    )
    assert broken_reason(OLD, without_ollama(State.OK, 61), NOW) is None


def test_when_it_is_not_known_how_long_it_has_been_gone_the_lease_tells_when_it_was_there() -> None:
    gone = without_ollama(State.UNREACHABLE, None)
    assert broken_reason(a_lease("one", age_s=10), gone, NOW) is None
    assert broken_reason(OLD, gone, NOW)


def test_a_machine_that_is_offline_breaks_its_leases_at_once() -> None:
    offline = a_live("one", status=Status.OFFLINE, reason="sidecar: connection refused")
    assert broken_reason(OLD, offline, NOW) == "it is offline (sidecar: connection refused)"


def test_a_machine_without_sidecar_has_the_same_minute_since_only_its_ollama_was_missed() -> None:
    machine = a_live("one", None, status=Status.OFFLINE)
    assert broken_reason(OLD, replace(machine, ollama_seen_at=NOW - 2), NOW) is None
    assert broken_reason(OLD, replace(machine, ollama_seen_at=NOW - 61), NOW)


def test_what_is_not_known_breaks_nothing() -> None:
    assert broken_reason(OLD, a_live("one", status=Status.UNKNOWN), NOW) is None


def test_a_removed_file_and_another_address_break_a_lease() -> None:
    assert broken_reason(OLD, None, NOW) == "its machine file was removed"
    assert broken_reason(OLD, a_live("one", port=11435), NOW) == "its address was changed"
    behind = Endpoint("ollama", "127.0.0.1", 11434, scheme="https", prefix="/ollama")
    live = a_live("one", endpoints={"ollama": behind})
    assert broken_reason(OLD, live, NOW) == "its address was changed"
    assert broken_reason(replace(OLD, url=behind.url), live, NOW) is None


MODEL, BESIDE = Share(RAM, 5), Share(RAM, 3, until_end=True)


def a_cold_lease(model: str, age_s: float, **changes: Any) -> Lease:
    lease = a_lease("one", model=model, warmth=Warmth.COLD, age_s=age_s)
    return replace(lease, shares=(MODEL, BESIDE), **changes)


def promised(*leases: Lease) -> list[tuple[Share, ...]]:
    """What each lease promises on a machine with no model in memory."""
    return [shares for _, shares in promised_shares(leases, a_live("one"), {})]


def test_a_released_lease_promises_only_what_its_model_takes() -> None:
    assert promised(a_cold_lease("m", 2, released_at=NOW)) == [(MODEL,)]
    both = a_cold_lease("m", 2, released_at=NOW), a_cold_lease("m", 1)
    assert promised(*both) == [(MODEL,), (BESIDE,)]


def test_a_model_that_loads_under_two_names_is_promised_once() -> None:
    names = a_cold_lease("m", 3), a_cold_lease("m", 2, digest="d"), a_cold_lease("alias", 1, digest="d")
    assert promised(*names) == [(MODEL, BESIDE), (BESIDE,), (BESIDE,)]
    assert promised(a_cold_lease("m", 2, digest="d"), a_cold_lease("other", 1, digest="e")) == [
        (MODEL, BESIDE),
        (MODEL, BESIDE),
    ]
