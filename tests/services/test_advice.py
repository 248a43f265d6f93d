"""The memory of advice stays small however often machines are advised."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from machines_server.core.model_names import model_key
from machines_server.core.routing.advised import Advice
from machines_server.core.routing.preference import Order
from machines_server.core.routing.question import Question
from machines_server.services.advice import MAX_HOLDERS, TELL_AGAIN_S, GivenAdvice
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_live, a_model, ask


class Board:
    def __init__(self) -> None:
        self.told: list[Advice] = []

    def add(self, advice: Advice) -> None:
        self.told.append(advice)

    def others(self) -> Sequence[Advice]:
        return ()


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
    for number in range(4000):
        place = given.order(Question(LLAMA), order, WARM, NOW + number / 1000)[0]
        advised[order.candidates[place].state.machine.name] += 1
        if number in (1000, 3999):
            sizes.append(sum(map(held_bytes, vars(given).values())))
    assert max(advised.values()) - min(advised.values()) <= 1
    assert sizes[1] < sizes[0] + 20_000


def test_others_are_told_once_a_while_of_a_model_to_load() -> None:
    order, board = Order(ask(COLD, cold=True).candidates, model_key(LLAMA)), Board()
    given = GivenAdvice(board)
    for number in range(100):
        given.order(Question(LLAMA), order, COLD, NOW + number / 1000)
    machines = [advice.machine for advice in board.told]
    assert len(machines) == len(set(machines)) > 0
    given.order(Question(LLAMA), order, COLD, NOW + 0.1 + TELL_AGAIN_S)
    assert len(board.told) == len(machines) + 1


def test_the_latest_who_asked_are_remembered() -> None:
    order, given = Order(ask(WARM).candidates, model_key(LLAMA)), GivenAdvice()
    places = {}
    for number in range(MAX_HOLDERS + 10):
        places[number] = given.order(Question(LLAMA), order, WARM, NOW, holder=f"h{number}")[0]
    for number in (10, 11, 12, MAX_HOLDERS):
        assert given.order(Question(LLAMA), order, WARM, NOW, holder=f"h{number}")[0] == places[number]
