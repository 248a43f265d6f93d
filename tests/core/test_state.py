"""The live keys of a machine: the latest polls, the machine file and the clock."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.contract.encoding import encode
from machines_server.contract.machines import live_keys
from machines_server.contract.telemetry import telemetry
from machines_server.core.machine import Endpoint, Machine
from machines_server.core.sample import GpuSample, HostSample, LoadedModel, RuntimeState, State
from machines_server.core.snapshot import Latest
from machines_server.core.state import MachineState, changes_at, machine_state
from tests.core.machines import BOTH, OLLAMA, SIDECAR, a_machine
from tests.core.routing.fleets import a_live, a_model

NOW = 1_800_000_000.0
LIMIT_S = 12.0
HOST = HostSample(cpu_percent=1.0, gpu=(GpuSample(0, "GPU-a", None, "dedicated", 24, 18, 6),))
TELEMETRY = json.loads(encode(telemetry(HOST)))
PHI = LoadedModel("phi3:mini", "d1", 100, 52, 4096)
ANSWERS = {"sidecar": RuntimeState(host=HOST), "ollama": RuntimeState(models=(PHI,))}
REASONS = {
    State.OK: None,
    State.BUSY: "no answer",
    State.UNREACHABLE: "refused",
    State.ERROR: "HTTP 500",
    State.UNASKED: "no token",
}


def latest(
    endpoint: Endpoint,
    state: State = State.OK,
    *,
    polled_s_ago: float = 1,
    answered_s_ago: float | None = None,
    answer: RuntimeState | None = None,
    machine: Machine | None = None,
    hint: str | None = None,
) -> dict[str, Latest]:
    """The latest poll of one endpoint of `machine`; one that is ok answered when it was polled."""
    if state is State.OK and answered_s_ago is None:
        answered_s_ago = polled_s_ago
    found = Latest(
        url=(machine or a_machine()).endpoints[endpoint.kind].url,
        state=state,
        reason=REASONS[state],
        polled_at=NOW - polled_s_ago,
        answered_at=None if answered_s_ago is None else NOW - answered_s_ago,
        answer=None if answered_s_ago is None else ANSWERS[endpoint.kind] if answer is None else answer,
        hint=hint,
    )
    return {endpoint.kind: found}


def shown(live: MachineState) -> dict[str, Any]:
    """The live keys as a client reads them."""
    keys: dict[str, Any] = json.loads(encode(live_keys(live)))
    return keys


def at(found: dict[str, Latest], fault: str | None, now: float) -> dict[str, Any]:
    return shown(machine_state(a_machine(), found, fault, now, LIMIT_S))


def live(found: dict[str, Latest], fault: str | None = None, **changes: Any) -> dict[str, Any]:
    return shown(machine_state(a_machine(**changes), found, fault, NOW, LIMIT_S))


SIDECAR_OK = latest(SIDECAR)
OLLAMA_OK = latest(OLLAMA)


@pytest.mark.parametrize("ahead_s", [3600.4, -3600.4])
def test_a_model_leaves_by_the_clock_of_the_server(ahead_s: float) -> None:
    live = a_live("one", [9], [a_model(expires_s=ahead_s + 300), a_model("m:never")], clock_ahead_s=ahead_s)
    leaves, never = (model["expires_at"] for model in shown(live)["ollama"]["models"])
    assert abs(datetime.fromisoformat(leaves).timestamp() - NOW - 300) <= 1
    assert leaves[-1] == "Z"
    assert never is None


def test_a_machine_that_answers_shows_all_it_said() -> None:
    assert live(SIDECAR_OK | OLLAMA_OK) == {
        "status": "online",
        "status_reason": None,
        "sampled_at": "2027-01-15T07:59:59.000Z",
        "last_seen": "2027-01-15T07:59:59.000Z",
        "telemetry": TELEMETRY,
        "loaded_models": ["phi3:mini"],
        "ollama": {
            "state": "ok",
            "message": None,
            "models": [
                {
                    "name": "phi3:mini",
                    "model": "phi3:mini",
                    "digest": "d1",
                    "size_bytes": 100,
                    "size_vram_bytes": 52,
                    "processor": "48%/52% CPU/GPU",
                    "context_length": 4096,
                    "expires_at": None,
                }
            ],
        },
    }


def test_a_machine_that_was_never_polled_has_every_key_and_claims_nothing() -> None:
    assert live({}) == {
        "status": "unknown",
        "status_reason": "sidecar and ollama: not polled yet",
        "sampled_at": None,
        "last_seen": None,
        "telemetry": {},
        "loaded_models": [],
        "ollama": {"state": None, "message": "not polled yet", "models": []},
    }


def test_a_machine_that_was_polled_long_ago_is_not_called_new() -> None:
    old = {one: found._replace(polled_at=NOW - 100) for one, found in (SIDECAR_OK | OLLAMA_OK).items()}
    keys = live(old)
    assert (keys["status"], keys["telemetry"]) == ("unknown", TELEMETRY)
    assert keys["status_reason"] == "sidecar and ollama: this server could not poll it"
    assert keys["ollama"]["message"] == "this server could not poll it"
    half_new = live({"sidecar": old["sidecar"]})
    assert half_new["status_reason"] == "ollama: not polled yet; sidecar: this server could not poll it"


def test_a_machine_without_endpoints_is_offline_and_says_why() -> None:
    keys = live({}, has_ollama=False, has_sidecar=False)
    assert keys["status"] == "offline"
    assert "declared" in keys["status_reason"]
    assert keys["ollama"] == {"state": "disabled", "message": None, "models": []}


def test_loaded_models_are_sorted_and_spelled_as_the_file_spells_them() -> None:
    names = ("zeta", "nomic-embed-text:latest", "HF.co/Org/M:q4", "alpha:7b")
    answer = tuple(LoadedModel(name) for name in names)
    found = SIDECAR_OK | latest(OLLAMA, answer=RuntimeState(models=answer))
    keys = live(found, models=("nomic-embed-text", "hf.co/org/m:Q4", "not-loaded"))
    assert keys["loaded_models"] == ["alpha:7b", "hf.co/org/m:Q4", "nomic-embed-text", "zeta"]
    assert {one["name"]: one["model"] for one in keys["ollama"]["models"]}["nomic-embed-text"] == (
        "nomic-embed-text:latest"
    )


def test_a_missed_sidecar_keeps_its_last_sample_with_its_age_but_never_online() -> None:
    keys = live(latest(SIDECAR, State.UNREACHABLE, answered_s_ago=30) | OLLAMA_OK)
    assert keys["status"] == "degraded"
    assert keys["status_reason"] == "sidecar: refused"
    assert keys["telemetry"] == TELEMETRY
    assert keys["sampled_at"] == "2027-01-15T07:59:30.000Z"
    assert keys["last_seen"] == "2027-01-15T07:59:59.000Z"


@pytest.mark.parametrize("state", [State.UNREACHABLE, State.ERROR])
def test_an_ollama_that_refuses_or_fails_has_no_models(state: State) -> None:
    keys = live(SIDECAR_OK | latest(OLLAMA, state, answered_s_ago=6))
    assert keys["status"] == "online"
    assert keys["loaded_models"] == []
    assert keys["ollama"]["state"] == state
    assert keys["ollama"]["models"] == []
    assert keys["ollama"]["message"].startswith(str(REASONS[state]))


@pytest.mark.parametrize(("answered_s_ago", "stands"), [(1, True), (60, True), (60.5, False), (None, False)])
def test_a_busy_ollama_keeps_its_last_models_for_a_minute(
    answered_s_ago: float | None,
    stands: bool,
) -> None:
    keys = live(SIDECAR_OK | latest(OLLAMA, State.BUSY, answered_s_ago=answered_s_ago))
    assert keys["loaded_models"] == (["phi3:mini"] if stands else [])
    assert keys["ollama"]["state"] == "busy"
    assert keys["ollama"]["message"] == "no answer"
    assert keys["status"] == "online"


def test_polls_of_another_address_do_not_count() -> None:
    keys = live(SIDECAR_OK | OLLAMA_OK, hostname="127.0.0.2")
    assert (keys["status"], keys["telemetry"], keys["sampled_at"]) == ("unknown", {}, None)
    assert (keys["last_seen"], keys["loaded_models"]) == (None, [])
    only_ollama_moved = live(SIDECAR_OK | OLLAMA_OK, port=1)
    assert only_ollama_moved["status"] == "online"
    assert only_ollama_moved["loaded_models"] == []


def test_a_disabled_endpoint_is_not_missed_and_its_old_answers_do_not_count() -> None:
    without_ollama = live(SIDECAR_OK | OLLAMA_OK, has_ollama=False)
    assert without_ollama["status"] == "online"
    assert without_ollama["ollama"] == {"state": "disabled", "message": None, "models": []}
    assert without_ollama["loaded_models"] == []
    without_sidecar = live(SIDECAR_OK | OLLAMA_OK, has_sidecar=False)
    assert without_sidecar["status"] == "online"
    assert without_sidecar["telemetry"] == {}
    assert without_sidecar["sampled_at"] is None


def test_without_a_poller_the_last_sample_stays_and_no_model_is_said_to_be_loaded() -> None:
    keys = live(SIDECAR_OK | OLLAMA_OK, "no poller is running")
    assert keys["status"] == "unknown"
    assert keys["status_reason"] == "no poller is running"
    assert keys["telemetry"] == TELEMETRY
    assert keys["sampled_at"]
    assert keys["loaded_models"] == []
    assert keys["ollama"] == {"state": None, "message": "no poller is running", "models": []}


@pytest.mark.parametrize("polled_s_ago", [12.5, -12.5, 3600, -3600])
def test_polls_that_are_too_old_or_from_the_future_do_not_speak_for_the_present(polled_s_ago: float) -> None:
    found = latest(SIDECAR, polled_s_ago=polled_s_ago) | latest(OLLAMA, polled_s_ago=polled_s_ago)
    keys = live(found)
    assert keys["status"] == "unknown"
    assert keys["loaded_models"] == []
    assert keys["sampled_at"]
    assert keys["telemetry"] == TELEMETRY


def test_one_stale_endpoint_makes_no_machine_offline() -> None:
    refused = latest(SIDECAR, State.UNREACHABLE)
    assert live(refused | latest(OLLAMA, polled_s_ago=100))["status"] == "unknown"
    assert live(SIDECAR_OK | latest(OLLAMA, polled_s_ago=100))["status"] == "online"


def test_what_ollama_says_comes_with_what_mends_it() -> None:
    refused = latest(OLLAMA, State.UNREACHABLE, hint="start it")
    assert live(refused)["ollama"]["message"] == "refused: start it"


def test_an_ollama_that_was_not_asked_for_lack_of_a_credential_says_nothing_of_its_host() -> None:
    alone = a_machine(has_sidecar=False)
    polls = latest(OLLAMA, State.UNASKED, answered_s_ago=3, machine=alone, hint="put it there")
    state = machine_state(alone, polls, None, NOW, LIMIT_S)
    keys = json.loads(encode(live_keys(state)))
    assert (keys["status"], keys["status_reason"]) == ("unknown", "ollama: no token")
    assert keys["ollama"] == {"state": None, "message": "no token: put it there", "models": []}
    assert (state.ollama, state.loaded_models) == (None, [])


# Quarters of seconds, so that sums are exact.
SPAN = st.integers(-400, 400).map(lambda quarters: quarters / 4)


@st.composite
def latests(draw: st.DrawFn) -> dict[str, Latest]:
    found: dict[str, Latest] = {}
    for endpoint in draw(st.sets(st.sampled_from(list(BOTH)))):
        state = draw(st.sampled_from(list(State)))
        answered = draw(SPAN | st.none())
        found |= latest(endpoint, state, polled_s_ago=draw(SPAN), answered_s_ago=answered)
    return found


@given(latests(), st.integers(0, 1000), st.sampled_from([None, "stalled"]))
def test_nothing_changes_by_the_clock_alone_before_the_moment_that_is_told(
    found: dict[str, Latest], quarters: int, fault: str | None
) -> None:
    then = changes_at(found, NOW, LIMIT_S)
    assert then >= NOW
    later = NOW + quarters / 4
    if later < then:
        assert at(found, fault, later) == at(found, fault, NOW)


def test_a_stamp_from_before_the_clock_was_set_back_counts_again_when_the_clock_comes_near() -> None:
    found = latest(SIDECAR, polled_s_ago=-100)
    assert changes_at(found, NOW, LIMIT_S) == NOW + 100 - LIMIT_S
    assert changes_at(found, NOW + 100, LIMIT_S) == NOW + 100 + LIMIT_S


@given(latests())
def test_after_the_last_moment_that_is_told_nothing_changes_any_more(found: dict[str, Latest]) -> None:
    now = NOW
    for _ in range(9):
        then = changes_at(found, now, LIMIT_S)
        if then == float("inf"):
            break
        now = then + 0.25
    assert then == float("inf")
    assert at(found, None, now) == at(found, None, now + 1e6)


@pytest.mark.parametrize("ahead_s", [7973 * 365.25 * 86_400, -7973 * 365.25 * 86_400, 1e300, -1e12])
@pytest.mark.parametrize("moment", ["0002-01-01T00:00:00Z", "2026-11-23T17:00:00Z", "2199-12-31T23:59:59Z"])
def test_a_clock_that_is_thousands_of_years_off_leaves_a_moment_that_can_be_shown(
    ahead_s: float, moment: str
) -> None:
    keys = shown(a_live("one", models=[LoadedModel("m", expires_at=moment)], clock_ahead_s=ahead_s))
    assert datetime.fromisoformat(keys["ollama"]["models"][0]["expires_at"])
