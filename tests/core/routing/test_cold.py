"""The cold choice: who could load the model, what that takes, and how long it lasts."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.memory import RAM, RECLAIMABLE
from machines_server.core.model_names import model_key
from machines_server.core.routing.leases import Warmth
from machines_server.core.routing.loading import ROUNDING_BYTES, LoadTime
from machines_server.core.routing.preference import best_first
from machines_server.core.sample import GIB, ModelSize, State, StoredModel
from machines_server.core.status import Status
from tests.core.routing.cold_questions import KEY, QWEN, ask, gbs, load_of, took
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_lease, a_live, a_model, codes, names, on_cpu


def test_machines_that_declare_the_model_or_have_it_on_disk_take_part() -> None:
    fleet = a_fleet(
        a_live("declares", declares=[QWEN]),
        a_live("stores"),
        a_live("neither"),
        on_disk={"stores": [StoredModel(QWEN, "d1", 10 * GIB)]},
    )
    ranking = ask(fleet)
    assert sorted(names(ranking)) == ["declares", "stores"]
    assert codes(ranking) == {"neither": "model_not_there"}
    assert not ask(fleet, cold=False).candidates


def test_a_model_that_is_declared_but_was_not_on_the_disk_comes_last_and_is_told() -> None:
    fleet = a_fleet(
        a_live("gone", [24], declares=[QWEN]),
        a_live("there", [4], declares=[QWEN]),
        on_disk={"gone": [], "there": [StoredModel(QWEN, None, GIB)]},
    )
    ranking = ask(fleet)
    assert names(ranking) == ["there", "gone"]
    assert "was not on its disk at 2027-01-15T07:59:00.000Z" in ranking.candidates[1].reason


def test_what_fits_without_eviction_comes_first_then_what_fits_with_it_then_the_unknown() -> None:
    fleet = a_fleet(
        a_live("blind", None, declares=[QWEN]),
        a_live("evicts", [4], [a_model("phi3:mini", gb=18, expires_s=60)], declares=[QWEN]),
        a_live("fits", [20], declares=[QWEN]),
        a_live("small", [4], declares=[QWEN]),
        sizes=tuple(took(20, machine=name) for name in ("evicts", "fits", "small")),
    )
    ranking = ask(fleet)
    assert [(one.state.machine.name, load_of(one).fits) for one in ranking.candidates] == [
        ("fits", "free"),
        ("evicts", "after_eviction"),
        ("blind", "unknown"),
    ]
    evicts = load_of(ranking.candidates[1])
    assert evicts.evicts == ("phi3:mini",)
    assert evicts.reclaimable_bytes == 18 * GIB
    assert ranking.candidates[1].free_vram_gb == 4.0
    assert ranking.rejected[0][1:3] == (
        "not_enough_vram",
        "needs 20.0 GiB (learned), has 4.0 GiB free and 0.0 GiB reclaimable",
    )


def test_a_model_may_be_spread_over_several_gpus_but_goes_on_one_if_it_can() -> None:
    fleet = a_fleet(a_live("two", [15, 18], declares=[QWEN]), sizes=(took(20),))
    (one,) = ask(fleet).candidates
    assert gbs(one) == {"two-1": 18, "two-0": 2}
    fleet = a_fleet(a_live("two", [15, 18], declares=[QWEN]), sizes=(took(16),))
    (one,) = ask(fleet).candidates
    assert gbs(one) == {"two-1": 16}


def test_a_host_without_gpu_needs_memory_and_comes_after_those_with_one() -> None:
    fleet = a_fleet(
        a_live("cpu", [], declares=[QWEN], ram_gb=30),
        a_live("evicting-cpu", [], [on_cpu(gb=10)], declares=[QWEN], ram_gb=12),
        a_live("gpu", [21], declares=[QWEN]),
        a_live("tiny", [], declares=[QWEN], ram_gb=8),
        sizes=(took(20),),
    )
    ranking = ask(fleet)
    assert names(ranking) == ["gpu", "cpu", "evicting-cpu"]
    assert gbs(ranking.candidates[1]) == {RAM: 20}
    assert gbs(ranking.candidates[2]) == {RAM: 12, RECLAIMABLE: 8}
    assert codes(ranking) == {"tiny": "not_enough_ram"}


def test_whether_a_model_fits_is_unknown_where_gpus_are_not_measured() -> None:
    declared = {"hardware": {"gpu": [{"model": "Radeon", "vram_gb": 24}]}}
    fleet = a_fleet(
        a_live("amd", [], declares=[QWEN], declared=declared),
        a_live("apple", [], [a_model("phi3", gb=1)], declares=[QWEN]),
        sizes=(took(47),),
    )
    ranking = ask(fleet)
    assert [(one.state.machine.name, load_of(one).fits, one.shares) for one in ranking.candidates] == [
        ("amd", "unknown", ()),
        ("apple", "unknown", ()),
    ]
    assert "unknown" in ranking.candidates[0].reason
    assert codes(ask(fleet, min_free_vram_gb=1)) == {"amd": "vram_unknown", "apple": "vram_unknown"}


def test_models_at_work_or_leased_are_not_reclaimable() -> None:
    working = a_live("one", [4], [a_model("phi3:mini", gb=18, expires_s=-5)], declares=[QWEN])
    assert codes(ask(a_fleet(working, sizes=(took(20),)))) == {"one": "not_enough_vram"}
    loaded_for = a_model("phi3:mini", gb=18, expires_s=300, is_working=True)
    working = a_live("one", [4], [loaded_for], declares=[QWEN])
    assert codes(ask(a_fleet(working, sizes=(took(20),)))) == {"one": "not_enough_vram"}
    idle = a_live("one", [4], [a_model("phi3:mini", gb=18)], declares=[QWEN])
    leased = a_lease("one", model="phi3", ends_in_s=20)
    assert names(ask(a_fleet(idle, sizes=(took(20),)))) == ["one"]
    assert names(ask(a_fleet(idle, sizes=(took(20),)), a_lease("one", model="phi3:mini"))) == []
    assert names(ask(a_fleet(idle, sizes=(took(20),)), leased)) == ["one"]  # another tag is another model
    busy = a_live("one", [4], [a_model("phi3:mini", gb=18)], declares=[QWEN], ollama=State.BUSY)
    assert codes(ask(a_fleet(busy, sizes=(took(20),)))) == {"one": "busy"}


def test_what_is_reclaimable_is_promised_once() -> None:
    live = a_live("one", [4], [a_model("phi3:mini", gb=18)], declares=[QWEN])
    other = a_lease("one", {"one-0": 4, RECLAIMABLE: 10}, model="mistral", warmth=Warmth.COLD)
    ranking = ask(a_fleet(live, sizes=(took(10),)), other)
    assert codes(ranking) == {"one": "leased"}
    assert ranking.retry_after_s == 60


def test_the_size_is_learned_by_digest_and_context_else_estimated_else_unknown() -> None:
    live = a_live("one", [24], declares=[QWEN])
    disk = {"one": [StoredModel(QWEN, "d1", 8 * GIB)]}
    sizes = (
        took(9, context=2048, digest="d1", age_s=50, machine="one"),
        took(12, context=8192, digest="d1", age_s=100, machine="one"),
        took(15, context=32768, digest="d1", age_s=300, machine="one"),
        took(20, context=8192, digest="d2", machine="one"),
    )

    def needs(**question: Any) -> tuple[int | None, str]:
        known = {"on_disk": disk, "sizes": sizes} | question.pop("known", {})
        (one,) = ask(a_fleet(live, **known), **question).candidates
        return load_of(one).needs_bytes, load_of(one).needs_from

    assert needs() == (9 * GIB, "learned")  # as it was last loaded
    assert needs(min_context=4096) == (12 * GIB, "learned")
    assert needs(min_context=20_000) == (15 * GIB, "learned")
    assert needs(min_context=100_000) == (15 * GIB, "estimated")  # not less than with a smaller context
    assert needs(known={"sizes": ()}) == (10 * GIB, "estimated")
    assert needs(known={"sizes": sizes, "on_disk": None}) == (20 * GIB, "learned")  # by name
    assert needs(known={"sizes": (), "on_disk": None}) == (None, "unknown")


def test_what_other_machines_showed_is_the_second_choice_and_is_told() -> None:
    live = a_live("one", [24], declares=[QWEN])
    disk = {"one": [StoredModel(QWEN, "d1", 8 * GIB)]}

    def needs(*sizes: ModelSize, **question: Any) -> tuple[float, str]:
        (one,) = ask(a_fleet(live, on_disk=disk, sizes=sizes), **question).candidates
        load = load_of(one)
        return (load.needs_bytes or 0) / GIB, load.needs_from

    own, other = took(12, machine="ONE", age_s=900), took(17, machine="other")
    assert needs(own, other) == (12, "learned")
    assert needs(other) == needs(took(17)) == (17, "learned_elsewhere")
    assert needs(own, took(20, context=32768, machine="other"), min_context=16384) == (
        20,
        "learned_elsewhere",
    )
    assert needs(own, took(11, context=32768, machine="other"), min_context=16384) == (
        12,
        "learned_elsewhere",
    )
    assert needs(took(22, machine="other"), min_context=16384) == (22, "estimated")
    assert needs(took(1, machine="other", context=2048), min_context=16384) == (10, "estimated")
    assert needs(took(20, machine="other", digest="d2")) == (10, "estimated")  # another version of it


def test_what_a_model_of_another_name_took_counts_only_with_the_same_size_on_disk() -> None:
    live = a_live("one", [24], declares=[QWEN])
    size = took(17, machine="other", model="mine", digest="d1")
    for bytes_there, expected in ((8 * GIB, "learned_elsewhere"), (9 * GIB, "estimated")):
        disk = {
            "one": [StoredModel(QWEN, "d1", 8 * GIB)],
            "other": [StoredModel("mine", "d1", bytes_there)],
        }
        fleet = a_fleet(live, a_live("other"), on_disk=disk, sizes=(size,))
        assert load_of(ask(fleet).candidates[0]).needs_from == expected


def test_a_learned_load_time_is_uncertain_by_one_interval() -> None:
    fleet = a_fleet(a_live("one", [24], declares=[QWEN]), sizes=(took(20),), interval_s=2.5)
    (one,) = ask(fleet, load_times=[LoadTime("one", KEY, 20 * GIB, 9.0)]).candidates
    assert (load_of(one).load_s, load_of(one).load_uncertainty_s) == (9.0, 2.5)
    (one,) = ask(fleet).candidates
    assert (load_of(one).load_from, load_of(one).load_uncertainty_s) == ("estimated", None)


def test_the_shortest_load_comes_first_and_says_how_it_is_known() -> None:
    fleet = a_fleet(
        a_live("disk", [24], declares=[QWEN]),
        a_live("nvme", [21], declares=[QWEN]),
        a_live("fresh", [22], declares=[QWEN]),
        sizes=(took(20),),
    )
    seen = [
        *(LoadTime("disk", KEY, 20 * GIB, second) for second in (1, 50, 60, 58, 61, 59)),
        LoadTime("nvme", model_key(LLAMA), 40 * GIB, 10.0),
    ]
    ranking = ask(fleet, load_times=seen)
    assert [
        (one.state.machine.name, load_of(one).load_s, load_of(one).load_from) for one in ranking.candidates
    ] == [
        ("nvme", 5.0, "estimated"),
        ("fresh", 20.0, "estimated"),
        ("disk", 59, "learned"),
    ]


def test_a_cold_lease_holds_its_vram_until_the_model_shows_up() -> None:
    lease = a_lease("one", {"one-0": 20}, model=QWEN, warmth=Warmth.COLD, age_s=30)
    cold = a_live("one", [22], declares=[QWEN, LLAMA])
    sizes = (took(20), took(5, model=LLAMA))
    assert codes(ask(a_fleet(cold, sizes=sizes), lease, model=LLAMA)) == {"one": "leased"}
    there = a_live("one", [6], [a_model(QWEN, gb=20)], declares=[QWEN, LLAMA])
    just_listed = {"one": {QWEN: NOW - 2}}
    assert codes(ask(a_fleet(there, sizes=sizes, held_since=just_listed), lease, model=LLAMA)) == {
        "one": "leased"
    }
    long_listed = {"one": {QWEN: NOW - 10}}
    ranking = ask(a_fleet(there, sizes=sizes, held_since=long_listed), lease, model=LLAMA)
    assert [one.free_vram_gb for one in ranking.candidates] == [6.0]


def test_a_model_that_is_being_loaded_for_a_lease_is_waited_for_or_shared() -> None:
    fleet = a_fleet(a_live("one", [22], declares=[QWEN]), sizes=(took(20),))
    lease = a_lease("one", {"one-0": 20}, model=QWEN, warmth=Warmth.COLD, age_s=8, load_s=30)
    ranking = ask(fleet, lease, cold=False)
    assert codes(ranking) == {"one": "loading"}
    assert ranking.retry_after_s == 22
    (one,) = ask(fleet, lease).candidates
    assert one.warmth is Warmth.LOADING
    assert one.shares == lease.shares  # the model is loaded once
    assert one.free_vram_gb == 2.0
    both = ask(fleet, lease, a_lease("one", {"one-0": 20}, model=QWEN, warmth=Warmth.LOADING))
    assert both.candidates[0].free_vram_gb == 2.0


def test_a_lease_for_another_model_with_a_digest_that_proves_nothing_is_no_load_of_this_one() -> None:
    live = a_live("one", [22], declares=[QWEN])
    disk = {"one": [StoredModel(QWEN, "d1", 2 * GIB), StoredModel("gpt-4o-mini", "d1", 9 * GIB)]}
    lease = replace(a_lease("one", model="gpt-4o-mini", warmth=Warmth.COLD, load_s=30), digest="d1")
    assert codes(ask(a_fleet(live, on_disk=disk), lease, cold=False)) == {"one": "model_not_loaded"}
    alias = {"one": [StoredModel(QWEN, "d1", 2 * GIB), StoredModel("mine", "d1", 2 * GIB)]}
    lease = replace(lease, model="mine")
    assert codes(ask(a_fleet(live, on_disk=alias), lease, cold=False)) == {"one": "loading"}


@pytest.mark.parametrize(
    ("lease", "changes", "code"),
    [
        ({"age_s": 15, "load_s": 5}, {}, "loading"),
        ({"age_s": 21, "load_s": 5}, {}, "model_not_loaded"),  # twice as long, and two intervals
        ({"age_s": 500, "load_s": 5}, {"ollama": State.BUSY}, "loading"),
        ({"age_s": 60}, {}, "loading"),
        ({"age_s": 71}, {}, "model_not_loaded"),
        ({"age_s": 15, "load_s": 50}, {"up_since": NOW - 14}, "model_not_loaded"),  # it was restarted
        ({"age_s": 15, "load_s": 50}, {"up_since": NOW - 16}, "loading"),
        ({"age_s": 500, "load_s": 5}, {"ollama": State.BUSY, "up_since": NOW - 9}, "busy"),
    ],
)
def test_a_load_is_believed_in_only_while_something_supports_it(
    lease: dict[str, Any], changes: dict[str, Any], code: str
) -> None:
    live = replace(a_live("one", [22], declares=[QWEN]), **changes)
    fleet = a_fleet(live, sizes=(took(20),))
    begun = a_lease("one", {"one-0": 20}, model=QWEN, warmth=Warmth.COLD, ends_in_s=600, **lease)
    joined = a_lease("one", {"one-0": 20}, model=QWEN, warmth=Warmth.LOADING, load_s=500)
    assert (
        codes(ask(fleet, begun, cold=False)) == codes(ask(fleet, begun, joined, cold=False)) == {"one": code}
    )
    ranking = ask(fleet, begun)
    if code == "loading":
        assert ranking.candidates[0].warmth is Warmth.LOADING
    elif code == "model_not_loaded":  # what it takes is still promised, once
        assert ranking.candidates[0].warmth is Warmth.COLD
        assert ranking.candidates[0].shares == begun.shares


def test_when_all_memory_is_promised_to_loads_it_is_leased_and_not_too_little() -> None:
    fleet = a_fleet(a_live("one", [22], declares=[QWEN]), sizes=(took(20),))
    lease = a_lease("one", {"one-0": 20}, model="other", warmth=Warmth.COLD, ends_in_s=7)
    ranking = ask(fleet, lease)
    assert codes(ranking) == {"one": "leased"}
    assert ranking.retry_after_s == 7


def test_with_a_holder_nobody_has_to_load_it() -> None:
    fleet = a_fleet(a_live("half", [1], [a_model(QWEN, on_gpu=0.5)]), a_live("idle", [24], declares=[QWEN]))
    assert names(ask(fleet)) == ["half"]
    assert codes(ask(fleet)) == {"idle": "model_not_loaded"}


GB = st.sampled_from([0, 1, 4, 8.5, 20])


@given(
    st.lists(st.lists(GB, max_size=2), max_size=5),
    st.sampled_from([None, 0.5, 4, 12, 30]),
    st.lists(st.tuples(st.integers(0, 4), GB), max_size=3),
    GB,
)
def test_a_cold_choice_never_promises_more_than_there_is(
    frees: list[list[float]], needs: float | None, leases: list[tuple[int, float]], min_free: float
) -> None:
    lives = [a_live(f"m{n}", free, declares=[QWEN], ram_gb=8) for n, free in enumerate(frees)]
    fleet = a_fleet(*lives, sizes=() if needs is None else (took(needs),))
    held = [a_lease(f"m{n}", {f"m{n}-0": gb}, ends_in_s=9) for n, gb in leases]
    ranking = ask(fleet, *held, min_free_vram_gb=min_free)
    assert best_first(ranking.candidates, KEY) == [*ranking.candidates]
    for one in ranking.candidates:
        host = one.state.host
        assert host is not None
        there = {gpu.uuid: gpu.vram_free_bytes for gpu in host.gpu} | {RAM: host.ram_available_bytes or 0}
        for lease in held:
            if lease.machine == one.state.machine.name:
                for share in lease.shares:
                    there[share.of] = max(there.get(share.of, 0) - share.size_bytes, 0)
        promised = Counter[str]()
        for share in one.shares:
            assert share.size_bytes > 0
            promised[share.of] += share.size_bytes
        assert all(size_bytes <= there[of] for of, size_bytes in promised.items())
        if needs is not None and load_of(one).fits == "free":
            assert promised.total() >= (needs + min_free) * GIB - ROUNDING_BYTES


def test_a_machine_that_cannot_be_used_cannot_load_either() -> None:
    fleet = a_fleet(a_live("one", declares=[QWEN], status=Status.OFFLINE, reason="sidecar: no route to host"))
    assert codes(ask(fleet)) == {"one": "offline"}
