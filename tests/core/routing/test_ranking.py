"""The warm choice: who holds the model, in which order, and why not the others."""

from typing import Any

import pytest

from machines_server.core.routing.leases import Warmth
from machines_server.core.routing.placement import EXPIRES_SOON_S
from machines_server.core.sample import (
    LoadedModel,
    State,
)
from machines_server.core.status import Status
from tests.core.routing.fleets import (
    LLAMA,
    a_fleet,
    a_lease,
    a_live,
    a_model,
    ask,
    codes,
    names,
    on_cpu,
    only,
)


def test_a_lease_counts_however_the_name_of_its_machine_is_written_now() -> None:
    fleet = a_fleet(a_live("box", [20], [a_model()]))
    lease = a_lease("BOX", {"box-0": 18})
    assert codes(ask(fleet, lease, min_free_vram_gb=10)) == {"box": "leased"}
    assert only(ask(fleet, lease)).leases == 1


def test_the_most_free_vram_on_a_single_gpu_comes_first() -> None:
    fleet = a_fleet(
        a_live("two-small", [12, 12], [a_model()]),
        a_live("one-large", [1, 16], [a_model()]),
        a_live("full", [0], [a_model()]),
    )
    assert names(ask(fleet)) == ["one-large", "two-small", "full"]
    assert ask(fleet).candidates[0].free_vram_gb == 16.0


def test_a_machine_that_does_not_hold_the_model_never_wins_by_its_free_vram() -> None:
    fleet = a_fleet(a_live("warm", [0.5], [a_model()]), a_live("cold", [24], declares=[LLAMA]))
    assert names(ask(fleet, cold=True)) == ["warm"]
    assert codes(ask(fleet)) == {"cold": "model_not_loaded"}


HALF: dict[str, tuple[LoadedModel, dict[str, Any], str]] = {
    "spilled": (a_model(on_gpu=0.5), {}, "50%/50% CPU/GPU"),
    "all on the CPU of a GPU host": (a_model(on_gpu=0), {}, "100% CPU"),
    "of unknown size": (a_model(size_bytes=None, size_vram_bytes=None), {}, "not known"),
    "about to expire": (a_model(expires_s=EXPIRES_SOON_S - 1), {}, "will be unloaded in 29 s"),
    "in use": (a_model(expires_s=-1), {}, "in use"),
    "in use for the request that loaded it": (a_model(expires_s=300, is_working=True), {}, "in use"),
    "with too small a context": (a_model(), {"min_context": 8193}, "context of 8192"),
    "with an unknown context": (a_model(context_length=None), {"min_context": 1}, "context is not known"),
}


@pytest.mark.parametrize("case", HALF)
def test_half_warm_ranks_below_truly_warm(case: str) -> None:
    model, question, reason = HALF[case]
    fleet = a_fleet(
        a_live("half", [20], [model]),
        a_live("warm", [0.1], [a_model(context_length=10_000, expires_s=EXPIRES_SOON_S + 1)]),
    )
    ranking = ask(fleet, **question)
    assert names(ranking) == ["warm", "half"]
    assert [one.warmth for one in ranking.candidates] == [Warmth.WARM, Warmth.HALF_WARM]
    assert reason in ranking.candidates[1].reason


def test_a_busy_ollama_is_half_warm() -> None:
    fleet = a_fleet(a_live("busy", [20], [a_model()], ollama=State.BUSY), a_live("idle", [1], [a_model()]))
    assert names(ask(fleet)) == ["idle", "busy"]


def test_when_a_model_leaves_is_told_by_the_clock_of_its_host() -> None:
    hour = 3600
    ahead = a_live("ahead", [9], [a_model(expires_s=hour + 300)], clock_ahead_s=hour)
    behind = a_live("behind", [8], [a_model(expires_s=-hour + 300)], clock_ahead_s=-hour)
    soon = a_live("soon", [10], [a_model(expires_s=hour + 10)], clock_ahead_s=hour)
    ranking = ask(a_fleet(ahead, behind, soon))
    assert [(one.state.machine.name, one.warmth) for one in ranking.candidates] == [
        ("ahead", Warmth.WARM),
        ("behind", Warmth.WARM),
        ("soon", Warmth.HALF_WARM),
    ]


STATES: dict[str, tuple[dict[str, Any], str]] = {
    "offline": ({"status": Status.OFFLINE, "reason": "sidecar: connection refused"}, "connection refused"),
    "degraded": ({"status": Status.DEGRADED, "reason": "sidecar: HTTP status 500"}, "HTTP status 500"),
    "unknown": ({"status": Status.UNKNOWN, "reason": "the poller is stalled"}, "stalled"),
    "no_ollama": ({"has_ollama": False}, "no Ollama"),
    "ollama_unreachable": ({"ollama": State.UNREACHABLE}, "no answer"),
    "ollama_error": ({"ollama": State.ERROR}, "no answer"),
}


@pytest.mark.parametrize("code", STATES)
def test_a_machine_that_cannot_be_used_is_rejected_with_its_reason(code: str) -> None:
    changes, reason = STATES[code]
    ranking = ask(a_fleet(a_live("one", **changes), a_live("peer", models=[a_model()])))
    assert names(ranking) == ["peer"]
    assert codes(ranking) == {"one": code}
    assert reason in ranking.rejected[0].reason


def test_what_is_unknown_is_known_soon_if_somebody_polls() -> None:
    live = a_live("new", status=Status.UNKNOWN, reason="sidecar: not polled yet")
    assert ask(a_fleet(live)).retry_after_s == 5
    assert ask(a_fleet(live, is_polled=False)).retry_after_s is None


def test_a_lease_lowers_what_is_free_for_others() -> None:
    fleet = a_fleet(a_live("one", [10], [a_model()]))
    lease = a_lease("one", {"one-0": 4})
    assert only(ask(fleet, lease)).free_vram_gb == 6.0
    assert only(ask(fleet, lease)).leases == 1
    assert names(ask(fleet, lease, min_free_vram_gb=6)) == ["one"]
    ranking = ask(fleet, lease, min_free_vram_gb=6.1)
    assert codes(ranking) == {"one": "leased"}
    assert ranking.retry_after_s == 60


def test_waiting_helps_when_enough_leases_will_have_ended() -> None:
    fleet = a_fleet(a_live("one", [10], [a_model()]))
    leases = [a_lease("one", {"one-0": 4}, ends_in_s=second) for second in (30.5, 10, 50)][:2]
    assert ask(fleet, *leases, min_free_vram_gb=5).retry_after_s == 10
    assert ask(fleet, *leases, min_free_vram_gb=7).retry_after_s == 31
    assert ask(fleet, *leases, min_free_vram_gb=11).retry_after_s is None


def test_who_asks_next_gets_the_machine_with_fewer_leases() -> None:
    fleet = a_fleet(
        a_live("a", [10], [a_model()]), a_live("b", [5], [a_model()]), a_live("c", [], [on_cpu()])
    )
    assert names(ask(fleet)) == ["a", "b", "c"]
    assert names(ask(fleet, a_lease("a"))) == ["b", "a", "c"]
    assert names(ask(fleet, a_lease("a"), a_lease("b"))) == ["a", "b", "c"]
