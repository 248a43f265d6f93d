"""The memory of advice stays small however often machines are advised."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import hypothesis
from hypothesis import strategies as st

from machines_server.core.model_names import model_key
from machines_server.core.routing.advised import Advice
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.preference import Order
from machines_server.core.routing.question import Question
from machines_server.services.advice import BURST_S, MAX_CHANGES, MAX_HOLDERS, TELL_AGAIN_S, GivenAdvice
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_live, a_model, ask


class Board:
    def __init__(self) -> None:
        self.told, self.others = list[Advice](), list[Advice]()

    def add(self, advice: Advice) -> None:
        self.told.append(advice)

    def news(self) -> Sequence[Advice]:
        news, self.others = self.others, []
        return news


def held_bytes(value: Any) -> int:
    """The memory of a value and of what it holds, as far as that is in collections of Python's."""
    parts: Iterator[Any] = iter(())
    if isinstance(value, dict):
        parts = iter([*value, *value.values()])
    elif not isinstance(value, str) and hasattr(value, "__iter__"):
        parts = iter(value)
    return sys.getsizeof(value) + sum(map(held_bytes, parts))


WARM = a_fleet(*(a_live(name, [20], [a_model()]) for name in "abc"))
COLD = a_fleet(*(a_live(name, [20], declares=[LLAMA]) for name in "ab"))


def test_many_questions_a_second_are_counted_in_little_memory() -> None:
    order, given = Order(ask(WARM).candidates, model_key(LLAMA)), GivenAdvice()
    advised, sizes = Counter[str](), []
    for number in range(8000):
        place = given.order(Question(LLAMA), order, WARM, NOW + number / 1000)[0]
        advised[order.candidates[place].state.machine.name] += 1
        if number in (1000, 7999):
            sizes.append(sum(map(held_bytes, vars(given).values())))
    assert max(advised.values()) - min(advised.values()) <= 1
    assert sizes[1] < sizes[0] + 20_000 + MAX_CHANGES * sys.getsizeof("a")


def test_others_are_told_once_a_while_of_a_model_to_load() -> None:
    order, board = Order(ask(COLD, cold=True).candidates, model_key(LLAMA)), Board()
    given = GivenAdvice(board)
    for number in range(100):
        given.order(Question(LLAMA), order, COLD, NOW + number / 1000)
    machines = [advice.machine for advice in board.told]
    assert len(machines) == len(set(machines)) > 0
    given.order(Question(LLAMA), order, COLD, NOW + 0.1 + TELL_AGAIN_S)
    assert len(board.told) == len(machines) + 1


def first(given: GivenAdvice, order: Order, fleet: Fleet, now: float) -> str:
    """The machine that would be advised; asking changes nothing."""
    places = given.order(Question(LLAMA), order, fleet, now, is_remembered=False)
    return order.candidates[places[0]].state.machine.name


def test_what_others_were_advised_counts_until_its_time_is_up() -> None:
    order, board = Order(ask(COLD, cold=True).candidates, model_key(LLAMA)), Board()
    given = GivenAdvice(board)
    alone = first(given, order, COLD, NOW)
    board.others = [Advice(name, "phi3", NOW, loads_s=30.0) for name in (alone, "gone")]
    assert first(given, order, COLD, NOW + 1) != alone
    assert first(given, order, COLD, NOW + 29) != alone
    assert first(given, order, COLD, NOW + 30 + BURST_S) == alone


def test_advice_that_counts_shortly_ends_before_what_counts_longer() -> None:
    order, board = Order(ask(WARM).candidates, model_key(LLAMA)), Board()
    given = GivenAdvice(board)
    board.others = [Advice("a", "phi3", NOW, loads_s=60.0)]
    alone = first(given, order, WARM, NOW)
    advised = given.order(Question(LLAMA), order, WARM, NOW)[0]
    assert order.candidates[advised].state.machine.name == alone
    assert first(given, order, WARM, NOW + 1) != alone
    assert first(given, order, WARM, NOW + WARM.interval_s + BURST_S) == alone
    assert first(given, order, WARM, NOW + 1) == alone, "the clock was set back"


def test_what_was_prepared_for_a_fleet_is_what_its_first_answer_gets() -> None:
    given, order = GivenAdvice(), Order(ask(WARM).candidates, model_key(LLAMA))
    taken = [given.order(Question(LLAMA), order, WARM, NOW + number / 10)[0] for number in range(2)]
    polled = replace(WARM, states=tuple(replace(state, ollama_seen_at=NOW + 0.05) for state in WARM.states))
    next_order = Order(ask(polled).candidates, model_key(LLAMA))
    given.prepare([next_order], polled, NOW + 1)
    assert first(given, next_order, polled, NOW + 1) == order.candidates[taken[0]].state.machine.name


def test_the_latest_who_asked_are_remembered() -> None:
    order, given = Order(ask(WARM).candidates, model_key(LLAMA)), GivenAdvice()
    places = {}
    for number in range(MAX_HOLDERS + 10):
        places[number] = given.order(Question(LLAMA), order, WARM, NOW, holder=f"h{number}")[0]
    for number in (10, 11, 12, MAX_HOLDERS):
        assert given.order(Question(LLAMA), order, WARM, NOW, holder=f"h{number}")[0] == places[number]


MOMENTS = st.tuples(st.floats(0, 3), st.sampled_from([None, 2.0, 9.0]), st.booleans())


@hypothesis.given(st.lists(MOMENTS, max_size=40))
def test_what_is_kept_counts_as_what_is_counted_anew(happens: list[tuple[float, float | None, bool]]) -> None:
    """Another fleet with the same samples has all advice counted anew."""
    fleets = [replace(COLD), replace(COLD)]
    order = Order(ask(COLD, cold=True).candidates, model_key(LLAMA))
    boards = Board(), Board()
    kept, anew = map(GivenAdvice, boards)
    now = NOW
    for number, (pause_s, loads_s, is_a) in enumerate(happens):
        now += pause_s
        for board in boards:
            board.others = [Advice("a" if is_a else "b", "phi3", now, loads_s)]
        assert first(kept, order, COLD, now) == first(anew, order, fleets[number % 2], now)
