"""The warm choice: who holds the model, in which order, and why not the others."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.advice import Advice
from machines_server.core.fleet import Fleet
from machines_server.core.leases import Lease, Warmth
from machines_server.core.router import EXPIRES_SOON_S, NEAREST_FIRST
from machines_server.core.sample import (
    GIB,
    GpuUnreadable,
    HostSample,
    LoadedModel,
    State,
    StoredModel,
    telemetry,
)
from machines_server.core.status import Status
from tests.core.fleets import LLAMA, a_fleet, a_lease, a_live, a_model, ask, codes, names, on_cpu


def only(advice: Advice) -> Any:
    (one,) = advice.candidates
    return one


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


def test_names_are_compared_after_the_rules_of_ollama() -> None:
    fleet = a_fleet(a_live("one", models=[a_model("nomic-embed-text:latest")]))
    for name in ("nomic-embed-text", "NOMIC-embed-text:latest", "library/nomic-embed-text"):
        assert only(ask(fleet, model=name)).model == name
    assert codes(ask(fleet, model="nomic-embed-text:v1")) == {"one": "model_not_loaded"}


def test_another_name_of_the_same_digest_will_do_and_the_answer_says_which_name_to_send() -> None:
    fleet = a_fleet(
        a_live("named", [4], [a_model(digest="d1")]),
        a_live("alias", [8], [a_model("mine:latest", digest="d1")]),
        a_live("other", [20], [a_model("yours:latest", digest="d2")]),
    )
    assert [(one.live.machine.name, one.model) for one in ask(fleet).candidates] == [
        ("alias", "mine:latest"),
        ("named", LLAMA),
    ]


def test_a_name_that_is_on_the_disk_there_can_be_sent_even_if_an_alias_is_in_memory() -> None:
    alias = a_live("alias", [8], [a_model("mine:latest", digest="d1")])
    fleet = a_fleet(alias, on_disk={"alias": [StoredModel(LLAMA, "d1", 40 * GIB)]})
    assert only(ask(fleet)).model == LLAMA


HALF: dict[str, tuple[LoadedModel, dict[str, Any], str]] = {
    "spilled": (a_model(on_gpu=0.5), {}, "50%/50% CPU/GPU"),
    "all on the CPU of a GPU host": (a_model(on_gpu=0), {}, "100% CPU"),
    "of unknown size": (a_model(size_bytes=None, size_vram_bytes=None), {}, "not known"),
    "about to expire": (a_model(expires_s=EXPIRES_SOON_S - 1), {}, "leaves in 29 s"),
    "at work": (a_model(expires_s=-1), {}, "at work"),
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
    advice = ask(fleet, **question)
    assert names(advice) == ["warm", "half"]
    assert [one.warmth for one in advice.candidates] == [Warmth.WARM, Warmth.HALF_WARM]
    assert reason in advice.candidates[1].reason


def test_a_busy_ollama_is_half_warm() -> None:
    fleet = a_fleet(a_live("busy", [20], [a_model()], ollama=State.BUSY), a_live("idle", [1], [a_model()]))
    assert names(ask(fleet)) == ["idle", "busy"]


def test_when_a_model_leaves_is_told_by_the_clock_of_its_host() -> None:
    hour = 3600
    ahead = a_live("ahead", [9], [a_model(expires_s=hour + 300)], clock_ahead_s=hour)
    behind = a_live("behind", [8], [a_model(expires_s=-hour + 300)], clock_ahead_s=-hour)
    soon = a_live("soon", [10], [a_model(expires_s=hour + 10)], clock_ahead_s=hour)
    advice = ask(a_fleet(ahead, behind, soon))
    assert [(one.live.machine.name, one.warmth) for one in advice.candidates] == [
        ("ahead", Warmth.WARM),
        ("behind", Warmth.WARM),
        ("soon", Warmth.HALF_WARM),
    ]


def test_a_host_without_gpu_takes_part_with_no_vram() -> None:
    fleet = a_fleet(a_live("cpu", [], [on_cpu()]), a_live("gpu", [0.1], [a_model()]))
    advice = ask(fleet)
    assert names(advice) == ["gpu", "cpu"]
    assert advice.candidates[1].free_vram_gb == 0.0
    assert advice.candidates[1].warmth is Warmth.WARM
    assert codes(ask(fleet, min_free_vram_gb=0.2)) == {"gpu": "not_enough_vram", "cpu": "not_enough_vram"}


def test_free_vram_that_nobody_measured_is_unknown_and_fits_nothing_that_needs_some() -> None:
    fleet = a_fleet(a_live("bare", None, [a_model()]))
    assert only(ask(fleet)).free_vram_gb is None
    advice = ask(fleet, min_free_vram_gb=1)
    assert codes(advice) == {"bare": "vram_unknown"}
    assert "no sidecar" in advice.rejected[0].reason


def test_a_host_whose_gpus_cannot_be_read_says_why() -> None:
    live = a_live("lost", [], [a_model()])
    host = HostSample(gpu_unreadable=(GpuUnreadable(0, "GPU-0", "NVML: GPU is lost"),))
    fleet = a_fleet(replace(live, host=host))
    assert only(ask(fleet)).free_vram_gb is None
    assert "GPU is lost" in ask(fleet, min_free_vram_gb=1).rejected[0].reason


def test_min_free_vram_is_measured_on_one_gpu() -> None:
    fleet = a_fleet(a_live("two", [2.1, 1.0], [a_model()]))
    assert names(ask(fleet, min_free_vram_gb=2.1)) == ["two"]
    advice = ask(fleet, min_free_vram_gb=4)
    assert advice.rejected[0][:3] == ("two", "not_enough_vram", "needs 4, has 2.1 on its best GPU (GiB)")
    assert advice.retry_after_s is None


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
    advice = ask(a_fleet(a_live("one", **changes), a_live("peer", models=[a_model()])))
    assert names(advice) == ["peer"]
    assert codes(advice) == {"one": code}
    assert reason in advice.rejected[0].reason


def test_what_is_unknown_is_known_soon_if_somebody_polls() -> None:
    live = a_live("new", status=Status.UNKNOWN, reason="sidecar: not polled yet")
    assert ask(a_fleet(live)).retry_after_s == 5
    assert ask(a_fleet(live, is_polled=False)).retry_after_s is None


DECLARED = {
    "tags": ["primary", "gpu", 3],
    "site": "warsaw",
    "hardware": {"ram_gb": 128, "gpu": [{"model": "A"}, {"model": "B", "vram_gb": 24.5}]},
    "owner.team": {"name": "blue"},
    "spot": True,
    "until": None,
}


@pytest.mark.parametrize(
    ("question", "fits"),
    [
        ({"role": "gpu-host"}, True),
        ({"role": "gpu"}, False),
        ({"tags": ("gpu",)}, True),
        ({"tags": ("gpu", "primary", "3")}, True),
        ({"tags": ("gpu", "edge")}, False),
        ({"exclude": frozenset({"one"})}, False),
        ({"exclude": frozenset({"other"})}, True),
        ({"where": (("site", "warsaw"),)}, True),
        ({"where": (("site", "krakow"),)}, False),
        ({"where": (("sites", "warsaw"),)}, False),
        ({"where": (("site.city", "warsaw"),)}, False),
        ({"where": (("hardware.ram_gb", "128"), ("spot", "true"))}, True),
        ({"where": (("hardware.gpu.model", "B"), ("hardware.gpu.vram_gb", "24.5"))}, True),
        ({"where": (("hardware.gpu.model", "C"),)}, False),
        ({"where": (("owner.team.name", "blue"),)}, True),
        ({"where": (("until", "null"),)}, True),
        ({"where": (("tags", "primary"),)}, True),
    ],
)
def test_constraints_are_read_from_the_machines_file(question: dict[str, Any], fits: bool) -> None:
    fleet = a_fleet(a_live("one", models=[a_model()], declared=DECLARED))
    advice = ask(fleet, **question)
    assert bool(advice.candidates) is fits
    assert len(advice.candidates) + len(advice.rejected) == 1


def test_what_stands_in_the_file_is_told_when_it_is_not_what_was_asked_for() -> None:
    fleet = a_fleet(a_live("one", models=[a_model()], declared=DECLARED))
    assert ask(fleet, where=(("site", "krakow"),)).rejected[0].reason == "its site is warsaw, not krakow"
    assert ask(fleet, tags=("edge",)).rejected[0].reason == "it is not tagged edge"


def test_when_nobody_fits_the_nearest_miss_comes_first() -> None:
    fleet = a_fleet(
        a_live("far-offline", status=Status.OFFLINE, reason="x"),
        a_live("less", [1], [a_model()]),
        a_live("more", [3], [a_model()]),
        a_live("cold"),
        a_live("declared", declares=[LLAMA]),
        a_live("leased", [8], [a_model()]),
        a_live("out", [24], [a_model()]),
    )
    advice = ask(fleet, a_lease("leased", {"leased-0": 6}), min_free_vram_gb=4, exclude=frozenset({"out"}))
    assert list(codes(advice)) == ["leased", "more", "less", "declared", "cold", "far-offline", "out"]


def test_a_machine_that_only_its_file_keeps_away_is_a_nearer_miss_than_one_that_would_not_do_either() -> None:
    fleet = a_fleet(a_live("cold", declared={"tags": ["x"]}), a_live("warm", models=[a_model()]), a_live("a"))
    assert list(codes(ask(fleet, tags=("x",)))) == ["warm", "cold", "a"]


def test_a_lease_lowers_what_is_free_for_others() -> None:
    fleet = a_fleet(a_live("one", [10], [a_model()]))
    lease = a_lease("one", {"one-0": 4})
    assert only(ask(fleet, lease)).free_vram_gb == 6.0
    assert only(ask(fleet, lease)).leases == 1
    assert names(ask(fleet, lease, min_free_vram_gb=6)) == ["one"]
    advice = ask(fleet, lease, min_free_vram_gb=6.1)
    assert codes(advice) == {"one": "leased"}
    assert advice.retry_after_s == 60


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


# By the stated rule, as properties.

GB = st.sampled_from([0, 0.01, 0.5, 2, 5.8, 23.5])
MODELS = st.sampled_from(
    [(), (a_model(),), (a_model(on_gpu=0.5),), (a_model(expires_s=5),), (a_model("phi3:mini"),)]
)


@st.composite
def fleets(draw: st.DrawFn, models: st.SearchStrategy[tuple[LoadedModel, ...]] = MODELS) -> Fleet:
    lives = []
    for number in range(draw(st.integers(0, 6))):
        free = draw(st.lists(GB, max_size=2))
        held = draw(models)
        if not free and held and held[0].model == LLAMA:
            held = (on_cpu(),)
        status = draw(st.sampled_from([Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.OFFLINE]))
        lives.append(a_live(f"m{number}", free, held, status=status, reason=None))
    return a_fleet(*lives)


@st.composite
def leased(draw: st.DrawFn) -> tuple[Fleet, tuple[Lease, ...]]:
    fleet = draw(fleets())
    holders = st.sampled_from([f"m{number}" for number in range(6)])
    return fleet, tuple(
        a_lease(name, {f"{name}-0": gb}, ends_in_s=second)
        for second, (name, gb) in enumerate(draw(st.lists(st.tuples(holders, GB), max_size=4)), 1)
    )


@given(leased(), GB)
def test_the_choice_is_the_best_by_the_stated_rule(
    world: tuple[Fleet, tuple[Lease, ...]], min_free: float
) -> None:
    fleet, leases = world
    advice = ask(fleet, *leases, min_free_vram_gb=min_free)
    expected = []
    for live in fleet.lives:
        name, host = live.machine.name, live.host
        if live.verdict.status is not Status.ONLINE or not live.models or live.models[0].model != LLAMA:
            continue
        assert host is not None
        here = [lease for lease in leases if lease.machine == name]
        taken = {gpu.uuid: 0 for gpu in host.gpu}
        for lease in here:
            for share in lease.shares:
                taken[share.of] = taken.get(share.of, 0) + share.size_bytes
        free = max((round(max(g.vram_free_bytes - taken[g.uuid], 0) / GIB, 2) for g in host.gpu), default=0)
        model = live.models[0]
        is_half = (bool(host.gpu) and model.processor != "100% GPU") or model.expires_at is not None
        if free >= min_free:
            expected.append((is_half, free == 0, len(here), -free, name))
    assert names(advice) == [name for *_, name in sorted(expected)]


@given(leased(), GB, st.data())
def test_without_one_candidate_the_others_keep_their_order(
    world: tuple[Fleet, tuple[Lease, ...]], min_free: float, data: st.DataObject
) -> None:
    fleet, leases = world
    before = names(ask(fleet, *leases, min_free_vram_gb=min_free))
    if before:
        gone = data.draw(st.sampled_from(before))
        rest = a_fleet(*(live for live in fleet.lives if live.machine.name != gone))
        assert names(ask(rest, *leases, min_free_vram_gb=min_free)) == [one for one in before if one != gone]


@given(leased(), GB, st.booleans())
def test_every_machine_is_a_candidate_or_rejected_with_a_code_and_a_sentence(
    world: tuple[Fleet, tuple[Lease, ...]],
    min_free: float,
    cold: bool,
) -> None:
    fleet, leases = world
    advice = ask(fleet, *leases, min_free_vram_gb=min_free, cold=cold)
    told = names(advice) + list(codes(advice))
    assert sorted(told) == sorted(live.machine.name for live in fleet.lives)
    assert set(codes(advice).values()) <= set(NEAREST_FIRST)
    assert all(one.reason for one in advice.rejected if one.code != "offline")


@given(fleets(st.sampled_from([(), (a_model(),)])), GB)
def test_without_leases_and_constraints_it_is_the_router_of_the_guide(fleet: Fleet, min_free: float) -> None:
    found = []
    for live in fleet.lives:
        assert live.host is not None
        if live.verdict.status != "online" or LLAMA not in [model.model for model in live.models]:
            continue
        body = telemetry(live.host)
        free = max((gpu["vram_free_gb"] for gpu in body.get("gpu", [])), default=0)
        if free >= min_free:
            found.append((-free, live.machine.name))
    assert names(ask(fleet, min_free_vram_gb=min_free)) == [name for _, name in sorted(found)]
