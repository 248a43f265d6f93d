"""A card has one memory, however many files list it, and its owner and users keep their parts."""

from dataclasses import replace
from typing import Any

import pytest

from machines_server.core.memory import RAM, RECLAIMABLE, Share
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Warmth
from machines_server.core.sample import GIB, GpuSample, GpuUnreadable, HostSample, LoadedModel, ModelSize
from machines_server.core.state import MachineState
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_lease, a_live, a_model, ask, codes, names, on_cpu

QWEN = "qwen2.5:32b"
A, B = "GPU-aaa", "GPU-bbb"


def on(
    name: str,
    cards: dict[str, float],
    *models: LoadedModel,
    age_s: float = 1,
    port: int = 3039,
    **changes: Any,
) -> MachineState:
    """A machine that sees those cards of 24 GiB, with so much free on each."""
    gpus = (
        GpuSample(index, uuid, None, "dedicated", 24 * GIB, round((24 - gb) * GIB), round(gb * GIB))
        for index, (uuid, gb) in enumerate(cards.items())
    )
    # Each Ollama has a port of its own.
    values: dict[str, Any] = {"port": 20000 + sum(name.encode()), "sidecar_port": port, "declares": [QWEN]}
    live = a_live(name, (), models, **values | changes)
    host = HostSample(ram_available_bytes=64 * GIB, gpu=tuple(gpus))
    return replace(live, host=host, sampled_at=NOW - age_s)


def took(gb: float) -> tuple[ModelSize, ...]:
    return (ModelSize(QWEN, None, 8192, round(gb * GIB), None, NOW),)


def two(*, models: tuple[LoadedModel, ...] = (a_model(gb=1),), **changes: Any) -> Fleet:
    """Two files of one host; GPU-aaa has 20 GiB free, GPU-bbb 8."""
    cards = {A: 20.0, B: 8.0}
    return a_fleet(on("first", cards, *models), on("second", cards, *models), **changes)


def free_gb(fleet: Fleet, *leases: Any, **question: Any) -> dict[str, float | None]:
    return {one.state.machine.name: one.free_vram_gb for one in ask(fleet, *leases, **question).candidates}


@pytest.mark.parametrize("sidecar_port", [3039, 3040])
def test_what_is_promised_of_a_card_through_one_file_is_promised_in_the_other(sidecar_port: int) -> None:
    cards = {A: 20.0, B: 8.0}
    fleet = a_fleet(
        on("first", cards, a_model()),
        on("second", dict(reversed(cards.items())), a_model(), port=sidecar_port),
    )
    lease = a_lease("first", {A: 12}, ends_in_s=40)
    refused = ask(fleet, lease, min_free_vram_gb=12)
    assert codes(refused) == {"first": "leased", "second": "leased"}
    assert refused.retry_after_s == 40
    assert names(ask(fleet, lease, min_free_vram_gb=8)) == ["second", "first"]
    assert free_gb(fleet, lease) == {"second": 8.0, "first": 8.0}
    both = lease, a_lease("second", {B: 8})
    assert free_gb(fleet, *both) == {"first": 8.0, "second": 8.0}


def test_the_leases_of_a_machine_are_those_of_its_own_file() -> None:
    counts = {one.state.machine.name: one.leases for one in ask(two(), a_lease("first", {A: 1})).candidates}
    assert counts == {"first": 1, "second": 0}


def test_a_promise_outlives_its_file_since_its_holder_still_works_on_the_card() -> None:
    assert free_gb(two(), a_lease("removed", {A: 15})) == {"first": 8.0, "second": 8.0}


def test_a_card_of_another_host_is_another_card() -> None:
    fleet = a_fleet(on("first", {A: 20}, a_model()), on("second", {B: 20}, a_model(), port=1))
    assert free_gb(fleet, a_lease("first", {A: 12})) == {"second": 20.0, "first": 8.0}


def test_a_cold_load_through_one_file_is_promised_in_the_other() -> None:
    fleet = two(models=(), sizes=took(16))
    assert sorted(names(ask(fleet, model=QWEN, cold=True))) == ["first", "second"]
    loading = a_lease("first", {A: 16}, model=QWEN, warmth=Warmth.COLD, ends_in_s=50)
    ranking = ask(fleet, loading, model=QWEN, cold=True)
    assert names(ranking) == ["first"]  # which shares the load
    assert codes(ranking) == {"second": "leased"}
    shared = a_lease("first", {A: 16}, model=QWEN, warmth=Warmth.LOADING, age_s=-1)
    assert free_gb(fleet, loading, shared, model=QWEN, cold=True) == {"first": 8.0}
    elsewhere = a_lease("second", {A: 3}, model=QWEN, warmth=Warmth.COLD)
    assert free_gb(fleet, loading, elsewhere, model=QWEN, cold=True) == {"first": 8.0, "second": 8.0}


def test_a_load_is_promised_until_the_sample_of_each_file_shows_it() -> None:
    def fleet(age_s: float) -> Fleet:
        first = on("first", {A: 4.0}, a_model(QWEN, gb=16), age_s=0)
        second = on("second", {A: 20.0 if age_s > 2 else 4.0}, a_model(), age_s=age_s)
        return a_fleet(first, second, held_since={"first": {QWEN: NOW - 4}})

    loaded = a_lease("first", {A: 16}, model=QWEN, warmth=Warmth.COLD)
    assert free_gb(fleet(1), loaded) == {"second": 4.0}
    assert free_gb(fleet(3), loaded) == {"second": 4.0}  # its sample is of before


def test_ram_is_promised_once_for_all_files_of_one_sidecar() -> None:
    hosts = [on("a", {}, declares=[QWEN]), on("b", {}, declares=[QWEN]), on("c", {}, port=1, declares=[QWEN])]
    fleet = a_fleet(*hosts, sizes=took(40))
    lease = a_lease("a", {RAM: 40}, model="other", warmth=Warmth.COLD)
    ranking = ask(fleet, lease, model=QWEN, cold=True)
    assert names(ranking) == ["c"]
    assert codes(ranking) == {"a": "leased", "b": "leased"}


def test_what_was_evicted_for_a_lease_is_not_free_for_others() -> None:
    lease = a_lease("first", {A: 4, RECLAIMABLE: 12}, model=QWEN, warmth=Warmth.COLD)
    before = a_fleet(on("first", {A: 4.0}, a_model("phi3:mini", gb=20)), on("second", {A: 4.0}, a_model()))
    assert free_gb(before, lease) == {"second": 0.0}
    after = a_fleet(on("first", {A: 24.0}), on("second", {A: 24.0}, a_model()))
    assert free_gb(after, lease) == {"second": 8.0}
    assert codes(ask(after, lease, min_free_vram_gb=10))["second"] == "leased"


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [(None, 20.0), ((0,), 20.0), ((1,), 8.0), ((B,), 8.0), (("gpu-BBB",), 8.0), ((1, A), 20.0), ((), 0.0)],
)
def test_only_the_cards_that_an_ollama_uses_count_for_it(
    gpus: tuple[int | str, ...] | None, expected: float
) -> None:
    fleet = a_fleet(on("one", {A: 20.0, B: 8.0}, a_model(), gpus=gpus))
    assert free_gb(fleet) == {"one": expected}


def test_a_card_that_its_sidecar_does_not_show_is_unknown_and_not_absent() -> None:
    fleet = a_fleet(on("one", {A: 20.0}, a_model(), gpus=("GPU-gone",)))
    assert free_gb(fleet) == {"one": None}
    assert ask(fleet, min_free_vram_gb=1).rejected[0][1:3] == (
        "vram_unknown",
        "needs 1 GiB of VRAM, but how much is free is unknown: its sidecar reports no such GPU",
    )
    lost = on("one", {A: 20.0}, a_model(), gpus=(1,))
    assert lost.host
    lost = replace(lost, host=replace(lost.host, gpu_unreadable=(GpuUnreadable(1, B, "GPU is lost"),)))
    assert "GPU is lost" in ask(a_fleet(lost), min_free_vram_gb=1).rejected[0].reason


def test_a_cold_load_goes_on_the_cards_that_its_ollama_uses() -> None:
    cards = {A: 20.0, B: 8.0}
    fleet = a_fleet(on("first", cards, gpus=(0,)), on("second", cards, gpus=(1,)), sizes=took(10))
    ranking = ask(fleet, model=QWEN, cold=True)
    assert [(one.state.machine.name, one.shares) for one in ranking.candidates] == [
        ("first", (Share(A, 10 * GIB),)),
    ]
    assert codes(ranking) == {"second": "not_enough_vram"}
    promised = a_lease("first", {A: 20})
    assert free_gb(a_fleet(on("second", cards, a_model(), gpus=(1,))), promised) == {"second": 8.0}


def reclaimable_gb(fleet: Fleet, *leases: Any, **question: Any) -> dict[str, float | None]:
    ranking = ask(fleet, *leases, model=QWEN, cold=True, **question)
    return {
        one.state.machine.name: one.load and (one.load.reclaimable_bytes or 0) / GIB
        for one in ranking.candidates
    }


def test_no_more_is_reclaimable_than_is_in_use() -> None:
    claims = a_model("phi3:mini", gb=40)
    assert reclaimable_gb(a_fleet(on("one", {A: 11.5}, claims), sizes=took(20))) == {"one": 12.5}
    assert reclaimable_gb(a_fleet(on("one", {A: 11.5, B: 21.0}, claims), sizes=took(20))) == {"one": 15.5}
    one_card = a_fleet(on("one", {A: 11.5, B: 21.0}, claims, gpus=(1,)), sizes=took(20))
    assert reclaimable_gb(one_card) == {"one": 3.0}
    assert codes(ask(a_fleet(on("one", {A: 11.5}, claims), sizes=took(25)), model=QWEN, cold=True)) == {
        "one": "not_enough_vram"
    }


def test_what_others_take_is_not_reclaimable() -> None:
    idle, leased = a_model("phi3:mini", gb=10), a_model("gemma3:4b", gb=8)
    host = on("one", {A: 11.5}, idle, leased)
    lease = a_lease("one", model="gemma3:4b")
    assert reclaimable_gb(a_fleet(host, sizes=took(12)), lease) == {"one": 4.5}
    beside = a_fleet(on("one", {A: 11.5}, idle), on("two", {A: 11.5}, leased), sizes=took(12))
    assert reclaimable_gb(beside) == {"one": 4.5, "two": 8 - 5.5}
    cards = {A: 11.5, B: 20.0}
    apart = a_fleet(on("one", cards, idle, gpus=(0,)), on("two", cards, leased, gpus=(1,)), sizes=took(12))
    assert reclaimable_gb(apart) == {"one": 10.0, "two": 4.0}


def test_what_one_card_gives_back_is_not_free_on_another() -> None:
    fleet = a_fleet(on("one", {A: 14.0, B: 2.0}, a_model("phi3:mini", gb=22)), sizes=took(5))
    assert reclaimable_gb(fleet, min_free_vram_gb=24) == {"one": 22.0}
    gone = a_lease("one", {A: 14, B: 1})
    assert codes(ask(fleet, gone, model=QWEN, cold=True, min_free_vram_gb=24)) == {"one": "leased"}


def test_ram_that_nobody_uses_is_not_reclaimable_either() -> None:
    host = on("one", {}, on_cpu("phi3:mini", gb=50))
    assert host.host
    host = replace(host, host=replace(host.host, ram_total_bytes=70 * GIB))
    assert reclaimable_gb(a_fleet(host, sizes=took(66))) == {"one": 6.0}


def test_an_owner_keeps_a_part_of_each_card() -> None:
    cards, kept = {A: 20.0, B: 8.0}, {"reserve_vram_bytes": 4 * GIB}
    fleet = a_fleet(on("one", cards, a_model(), **kept), sizes=took(18))
    assert free_gb(fleet) == {"one": 16.0}
    assert ask(fleet, min_free_vram_gb=17).rejected[0].code == "not_enough_vram"
    assert ask(fleet, a_lease("one", {A: 10}), min_free_vram_gb=7).rejected[0].code == "leased"
    (cold,) = ask(fleet, model=QWEN, cold=True).candidates
    assert {share.of: share.size_bytes / GIB for share in cold.shares} == {A: 16, B: 2}
    little = a_fleet(on("one", {A: 2.0}, a_model("phi3:mini", gb=20), **kept), sizes=took(19))
    assert codes(ask(little, model=QWEN, cold=True)) == {"one": "not_enough_vram"}
    assert reclaimable_gb(replace(little, sizes=took(18))) == {"one": 18.0}


def test_what_an_owner_keeps_of_a_card_is_kept_in_every_file() -> None:
    fleet = a_fleet(
        on("keeps", {A: 20.0, B: 8.0}, a_model(), reserve_vram_bytes=15 * GIB, gpus=(0,)),
        on("other", {A: 20.0, B: 8.0}, a_model()),
    )
    assert free_gb(fleet) == {"other": 8.0, "keeps": 5.0}


def test_an_ollama_that_holds_as_many_models_as_it_may_has_to_evict_one() -> None:
    one, two = a_model("phi3:mini", gb=1, expires_s=50), a_model("gemma3:4b", gb=1)

    def load(most: int | None, *leases: Any) -> Any:
        fleet = a_fleet(on("one", {A: 20.0}, one, two, max_loaded_models=most), sizes=took(5))
        ranking = ask(fleet, *leases, model=QWEN, cold=True)
        found = [(one.load.fits, one.load.evicts) for one in ranking.candidates if one.load]
        return found or [(one.code, one.retry_after_s) for one in ranking.rejected]

    assert load(None) == load(3) == [("free", ())]
    assert load(2) == [("after_eviction", ("phi3:mini",))]
    assert load(1) == [("after_eviction", ("phi3:mini", "gemma3:4b"))]
    phi, gemma = a_lease("one", model="phi3:mini", ends_in_s=30), a_lease("one", model="gemma3:4b")
    assert load(2, phi) == [("after_eviction", ("gemma3:4b",))]
    assert load(2, phi, gemma) == [("leased", 30)]
    coming = a_lease("one", {A: 1}, model="mistral:7b", warmth=Warmth.COLD, ends_in_s=20)
    assert load(3, coming) == [("after_eviction", ("phi3:mini",))]
    assert load(2, coming, phi) == [("leased", 20)]
    released = replace(coming, released_at=NOW)
    assert load(3, released) == [("after_eviction", ("phi3:mini",))]
    assert load(2, released, phi) == [("leased", 20)]


def test_an_ollama_whose_models_are_all_at_work_is_busy() -> None:
    host = on("one", {A: 20.0}, a_model("phi3:mini", gb=1, expires_s=-5), max_loaded_models=1)
    (one,) = ask(a_fleet(host, sizes=took(5)), model=QWEN, cold=True).rejected
    assert (one.code, one.retry_after_s) == ("busy", 5.0)
    assert one.reason == "it holds at most 1 models at a time, and each of them is leased or in use"


def test_who_joins_a_load_needs_no_place_for_another_model() -> None:
    fleet = a_fleet(on("one", {A: 20.0}, max_loaded_models=1), sizes=took(5))
    loading = a_lease("one", {A: 5}, model=QWEN, warmth=Warmth.COLD)
    assert names(ask(fleet, loading, model=QWEN, cold=True)) == ["one"]
    assert codes(ask(fleet, loading, model=LLAMA, cold=True)) == {"one": "model_not_there"}
