"""What a question asks for besides a model: RAM, a host of its own, or any machine with room."""

from dataclasses import replace
from typing import Any

import pytest

from machines_server.core.memory import RAM
from machines_server.core.routing.leases import Warmth
from machines_server.core.sample import GIB, State
from tests.core.routing.cold_questions import QWEN, gbs, load_of, took
from tests.core.routing.cold_questions import ask as ask_cold
from tests.core.routing.fleets import a_fleet, a_lease, a_live, a_model, ask, codes, names, on_cpu


def test_without_a_model_machines_are_ranked_by_their_room_alone() -> None:
    fleet = a_fleet(
        a_live("small", [8], [a_model()]),
        a_live("large", [20]),
        a_live("busy", [23], ollama=State.BUSY),
        a_live("cpu", []),
        a_live("elsewhere", [24], has_ollama=False),
    )
    ranking = ask(fleet, model="")
    assert names(ranking) == ["large", "small", "cpu", "busy"]
    assert {(one.model, one.warmth, one.is_warm) for one in ranking.candidates} == {(None, None, None)}
    assert codes(ranking) == {"elsewhere": "no_ollama"}
    assert codes(ask(fleet, model="", min_free_vram_gb=20.5))["large"] == "not_enough_vram"
    assert names(ask(fleet, a_lease("large", {"large-0": 4}), model="")) == ["small", "large", "cpu", "busy"]


def test_ram_that_is_asked_for_must_be_free_beside_a_model_in_memory() -> None:
    fleet = a_fleet(a_live("cpu", [], [on_cpu()], ram_gb=16), a_live("blind", None, [a_model()]))
    ranking = ask(fleet, min_free_ram_gb=16)
    assert names(ranking) == ["cpu"]
    assert codes(ranking) == {"blind": "ram_unknown"}
    assert codes(ask(fleet, min_free_ram_gb=16.1)) == {"cpu": "not_enough_ram", "blind": "ram_unknown"}
    lease = a_lease("cpu", {"ram": 4}, ends_in_s=7)
    rejected = ask(fleet, lease, min_free_ram_gb=13)
    assert codes(rejected) == {"cpu": "leased", "blind": "ram_unknown"}
    assert rejected.retry_after_s == 7


@pytest.mark.parametrize("warmth", Warmth)
def test_an_exclusive_question_wants_a_host_without_leases(warmth: Warmth) -> None:
    fleet = a_fleet(a_live("one", [20], [a_model()]), a_live("two", [10], [a_model()], hostname="two.lan"))
    ranking = ask(fleet, a_lease("one", warmth=warmth, ends_in_s=5), exclusive=True)
    assert names(ranking) == ["two"]
    assert codes(ranking) == {"one": "leased"}


@pytest.mark.parametrize(
    ("leases", "allowed", "question", "reason"),
    [
        (1, None, {"exclusive": True}, "it has 1 lease, but the request is exclusive"),
        (2, None, {"exclusive": True}, "it has 2 leases, but the request is exclusive"),
        (2, 2, {}, "it has 2 leases, and its limits.max_leases allows 2"),
    ],
)
def test_a_rejection_says_which_leases_are_in_the_way(
    leases: int, allowed: int | None, question: dict[str, Any], reason: str
) -> None:
    fleet = a_fleet(a_live("one", [20], [a_model()], max_leases=allowed))
    held = [a_lease("one", age_s=number) for number in range(leases)]
    assert ask(fleet, *held, **question).rejected[0].reason == reason


def test_beside_an_exclusive_lease_there_is_no_other_on_its_host() -> None:
    one, same_host = a_live("one", [20], [a_model()]), a_live("same-host", [10], [a_model()], port=11435)
    elsewhere = a_live("elsewhere", [10], [a_model()], hostname="elsewhere.lan")
    lease = a_lease("one", ends_in_s=5, is_exclusive=True)
    assert names(ask(a_fleet(one, same_host, elsewhere), lease)) == ["elsewhere"]
    alone = ask(a_fleet(one, same_host), lease)
    assert (codes(alone), alone.retry_after_s) == ({"one": "leased", "same-host": "leased"}, 5)


def test_two_files_with_the_same_ollama_are_one_host_even_without_sidecar() -> None:
    one, again = a_live("one", None, [a_model()]), a_live("again", None, [a_model()])
    other_host = a_live("elsewhere", None, [a_model()], hostname="elsewhere.lan")
    fleet = a_fleet(one, again, other_host)
    assert names(ask(fleet, a_lease("one", is_exclusive=True))) == ["elsewhere"]
    assert names(ask(fleet, a_lease("one"), exclusive=True)) == ["elsewhere"]


def test_a_machine_takes_no_more_leases_than_its_file_allows() -> None:
    fleet = a_fleet(
        a_live("one", [20], [a_model()], max_leases=2), a_live("none", [24], [a_model()], max_leases=0)
    )
    leases = [a_lease("one", ends_in_s=ends) for ends in (4, 9)]
    assert names(ask(fleet, leases[0])) == ["one"]
    full = ask(fleet, *leases)
    assert codes(full) == {"one": "leased", "none": "leased"}
    assert full.retry_after_s == 4
    assert names(ask(fleet, leases[0], model="")) == ["one"]


def test_leases_are_the_reason_only_where_the_machine_would_be_fit_without_them() -> None:
    full = a_live("full", [20], [a_model()], max_leases=1)
    lacking = a_live("lacking", [20], declares=[], max_leases=1)
    leases = [a_lease("full", ends_in_s=4), a_lease("lacking", ends_in_s=4)]
    fleet = a_fleet(full, lacking, sizes=(took(2),))
    elsewhere = ask(fleet, *leases)
    assert codes(elsewhere) == {"full": "leased", "lacking": "model_not_loaded"}
    assert elsewhere.retry_after_s == 4
    nowhere = ask_cold(fleet, *leases)
    assert codes(nowhere) == {"full": "model_not_there", "lacking": "model_not_there"}
    assert nowhere.retry_after_s is None
    too_much = ask(fleet, *leases, min_free_vram_gb=999)
    assert (codes(too_much)["full"], too_much.retry_after_s) == ("not_enough_vram", None)
    could_load = a_fleet(a_live("full", [20], [a_model()], max_leases=1, declares=[QWEN]), sizes=(took(2),))
    assert codes(ask_cold(could_load, leases[0])) == {"full": "leased"}


def test_min_free_vram_counts_for_cold_machines_too() -> None:
    fleet = a_fleet(
        a_live("one", [10, 10], declares=[QWEN]), a_live("cpu", [], declares=[QWEN]), sizes=(took(12),)
    )
    assert names(ask_cold(fleet, min_free_vram_gb=8)) == ["one"]
    assert codes(ask_cold(fleet, min_free_vram_gb=8.1)) == {
        "one": "not_enough_vram",
        "cpu": "not_enough_vram",
    }


def test_what_is_asked_for_must_be_free_beside_the_model() -> None:
    fleet = a_fleet(a_live("one", [23.5], declares=[QWEN]), sizes=(took(10),))
    assert codes(ask_cold(fleet, min_free_vram_gb=23.5)) == {"one": "not_enough_vram"}
    (rejection,) = ask_cold(fleet, min_free_vram_gb=13.6).rejected
    needs = "needs 10.0 GiB (learned_elsewhere) and 13.6 GiB beside it on one GPU"
    assert rejection.reason == f"{needs}, has 23.5 GiB free and 0.0 GiB reclaimable"
    assert rejection.missing == pytest.approx(0.1)
    (one,) = ask_cold(fleet, min_free_vram_gb=13.5).candidates
    assert sum(share.size_bytes for share in one.shares) == 23.5 * GIB
    assert [share.until_end for share in one.shares] == [False, True]


def test_it_may_be_free_on_another_gpu() -> None:
    fleet = a_fleet(a_live("two", [24, 20], declares=[QWEN]), sizes=(took(10),))
    assert gbs(ask_cold(fleet, min_free_vram_gb=20).candidates[0]) == {"two-0": 10, "two-1": 20}
    assert codes(ask_cold(fleet, min_free_vram_gb=20.1)) == {"two": "not_enough_vram"}


def test_who_shares_a_load_gets_what_is_asked_for_beside_it() -> None:
    fleet = a_fleet(a_live("one", [22], declares=[QWEN]), sizes=(took(15),))
    loading = a_lease("one", {"one-0": 15}, model=QWEN, warmth=Warmth.COLD, load_s=10)
    assert codes(ask_cold(fleet, loading, min_free_vram_gb=10)) == {"one": "leased"}
    (one,) = ask_cold(fleet, loading, min_free_vram_gb=5).candidates
    assert one.warmth is Warmth.LOADING
    shared = replace(a_lease("one", model=QWEN, warmth=Warmth.LOADING), id="shared", shares=one.shares)
    assert ask_cold(fleet, loading, shared).candidates[0].free_vram_gb == 2


def test_what_is_promised_beside_a_model_stays_promised_when_the_model_is_loaded() -> None:
    (one,) = ask_cold(
        a_fleet(a_live("one", [22], declares=[QWEN]), sizes=(took(10),)), min_free_vram_gb=5
    ).candidates
    lease = replace(a_lease("one", model=QWEN, warmth=Warmth.COLD, age_s=20, load_s=10), shares=one.shares)
    loaded = a_fleet(a_live("one", [12], [a_model(QWEN, gb=10)]))
    assert ask_cold(loaded, lease).candidates[0].free_vram_gb == 7


def test_ram_that_is_asked_for_must_be_free_beside_the_model_on_a_host_without_gpu() -> None:
    fleet = a_fleet(a_live("cpu", [], declares=[QWEN], ram_gb=16), sizes=(took(10),))
    assert codes(ask_cold(fleet, min_free_ram_gb=6.1)) == {"cpu": "not_enough_ram"}
    (one,) = ask_cold(fleet, min_free_ram_gb=6).candidates
    lease = replace(a_lease("cpu", model=QWEN, warmth=Warmth.COLD, load_s=10), shares=one.shares)
    assert codes(ask_cold(fleet, lease, min_free_ram_gb=1)) == {"cpu": "leased"}
    assert names(ask_cold(fleet, lease)) == ["cpu"]


def test_ram_beside_a_model_of_unknown_size_must_be_free_on_a_host_without_gpu() -> None:
    fleet = a_fleet(a_live("cpu", [], declares=[QWEN], ram_gb=8))
    assert codes(ask_cold(fleet, min_free_ram_gb=500)) == {"cpu": "not_enough_ram"}
    (one,) = ask_cold(fleet, min_free_ram_gb=8).candidates
    assert (load_of(one).fits, gbs(one)) == ("unknown", {RAM: 8})


def test_a_caller_may_ask_for_the_ram_that_it_was_told_is_left() -> None:
    fleet = a_fleet(a_live("cpu", [], declares=[QWEN], ram_gb=15.996), sizes=(took(10),))
    (one,) = ask_cold(fleet, min_free_ram_gb=6).candidates
    assert load_of(one).fits == "free"
    assert sum(share.size_bytes for share in one.shares) == round(15.996 * GIB)
