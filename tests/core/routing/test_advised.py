"""Advice that was just given counts as a lease in the ranking of later advice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from machines_server.core.model_names import model_key
from machines_server.core.routing.advised import Advice, still_counts
from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.preference import Order
from machines_server.core.routing.question import Question
from tests.core.routing.cold_questions import took
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_lease, a_live, a_model, ask

PHI = "phi3:mini"


def advice(machine: str, model: str = LLAMA, *, loads: bool = False, age_s: float = 0) -> Advice:
    return Advice(machine, model, NOW - age_s, 8.0 if loads else None)


def best_first(candidates: Sequence[Candidate], key: str, given: Sequence[Advice]) -> list[Candidate]:
    counts = Counter(one.machine for one in given)
    loads: dict[str, set[str]] = {}
    for one in given:
        if one.loads_s is not None:
            loads.setdefault(model_key(one.model), set()).add(one.machine)
    return [candidates[place] for place in Order(candidates, key).best_first(counts, loads)]


def advised(fleet: Fleet, asked: int) -> Counter[str]:
    """How often each machine is advised when the same is asked so many times in a row."""
    given: list[Advice] = []
    for _ in range(asked):
        best = best_first(ask(fleet).candidates, model_key(LLAMA), given)[0]
        given.append(Advice.of(Question(LLAMA), best, "", NOW))
    return Counter(one.machine for one in given)


def test_many_who_ask_between_two_samples_are_spread() -> None:
    fleet = a_fleet(*(a_live(name, [free], [a_model()]) for name, free in (("a", 20), ("b", 10), ("c", 5))))
    assert advised(fleet, 9) == {"a": 3, "b": 3, "c": 3}


def test_an_advice_counts_as_one_lease() -> None:
    fleet = a_fleet(a_live("a", [20], [a_model()]), a_live("b", [10], [a_model()]))
    candidates = ask(fleet, a_lease("b")).candidates
    names = [one.state.machine.name for one in best_first(candidates, model_key(LLAMA), [advice("a")])]
    assert names == ["a", "b"]
    names = [one.state.machine.name for one in best_first(candidates, model_key(LLAMA), [advice("a")] * 2)]
    assert names == ["b", "a"]


def test_a_machine_that_was_advised_to_load_another_model_comes_last() -> None:
    fleet = a_fleet(a_live("a", [20], declares=[LLAMA]), a_live("b", [10], declares=[LLAMA]))
    candidates = ask(fleet, a_lease("b", {"b-0": 1}), cold=True).candidates
    loads_phi = advice("a", PHI, loads=True)
    assert best_first(candidates, model_key(LLAMA), [loads_phi])[0].state.machine.name == "b"
    holds_phi = advice("a", PHI)
    assert best_first(candidates, model_key(LLAMA), [holds_phi])[0].state.machine.name == "a"


def test_free_machines_are_left_to_other_models_while_this_one_is_loaded_on_as_many() -> None:
    fleet = a_fleet(
        *(a_live(name, [20], declares=[LLAMA]) for name in "abcd"), sizes=(took(10, model=LLAMA),)
    )
    candidates = ask(fleet, cold=True).candidates
    first = candidates[0].state.machine.name
    one = [advice(first, loads=True)]
    second = best_first(candidates, model_key(LLAMA), one)[0].state.machine.name
    assert second != first
    two = [*one, advice(second, loads=True)]
    left = {*"abcd"} - {first, second}
    taken = [advice(left.pop(), PHI, loads=True)]
    assert best_first(candidates, model_key(LLAMA), two + taken)[0].state.machine.name in (first, second)
    assert best_first(candidates, model_key(PHI), two + taken)[0].state.machine.name in left


def test_an_advice_to_load_counts_until_a_sample_shows_the_model() -> None:
    given = advice("a", loads=True, age_s=6)
    sampled = replace(a_live("a", [20]), ollama_seen_at=NOW)
    assert still_counts(given, a_fleet(sampled), NOW)
    assert not still_counts(given, a_fleet(replace(sampled, models=(a_model(),))), NOW)
    assert not still_counts(advice("a", loads=True, age_s=9), a_fleet(sampled), NOW)


@pytest.mark.parametrize(
    ("age_s", "sampled_s_ago", "counts"),
    [(1, None, True), (1, 2, True), (2, 1, False), (5, None, False), (-1, None, False)],
    ids=["not sampled", "sampled before", "sampled since", "an interval ago", "the clock was set back"],
)
def test_an_advice_counts_until_the_next_sample(
    age_s: float, sampled_s_ago: float | None, counts: bool
) -> None:
    seen_at = None if sampled_s_ago is None else NOW - sampled_s_ago
    fleet = a_fleet(replace(a_live("a", [20], [a_model()]), ollama_seen_at=seen_at))
    assert still_counts(advice("a", age_s=age_s), fleet, NOW) == counts
