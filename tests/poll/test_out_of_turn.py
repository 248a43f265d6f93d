"""Machines that somebody waits for are polled soon, few at a time, and none too often."""

from machines_server.poll.out_of_turn import AGAIN_S, MAX_OUT_OF_TURN, MAX_WAITING, OutOfTurn


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_they_are_polled_in_the_order_in_which_they_were_asked_for() -> None:
    soon = OutOfTurn(Clock())
    soon.add(["b", "a", "b"])
    soon.add(["c", "a"])
    assert not soon.is_empty()
    assert soon.take() == ["b", "a", "c"]
    assert soon.is_empty()


def test_one_that_was_just_polled_waits_for_a_moment() -> None:
    clock = Clock()
    soon = OutOfTurn(clock)
    soon.add(["a"])
    assert soon.take() == ["a"]
    soon.add(["a", "b"])
    assert soon.take() == ["b"]
    clock.now += AGAIN_S
    assert soon.take() == ["a"]


def test_many_are_polled_a_few_at_a_time_and_more_in_their_turn() -> None:
    soon = OutOfTurn(Clock())
    soon.add(f"m{number}" for number in range(MAX_WAITING + 50))
    taken = []
    while batch := soon.take():
        assert len(batch) <= MAX_OUT_OF_TURN
        taken += batch
    assert taken == [f"m{number}" for number in range(MAX_WAITING)]
