"""The waiting room: nobody waits longer than requested, whatever goes wrong for others."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from itertools import count

import pytest

from machines_server.web import waiting_room
from machines_server.web.waiting_room import Asking, WaitableAnswer, WaitingRoom

NOTHING = WaitableAnswer(503, (), b'{"error":"no_machine","did_you_mean":[]}')
GRANTED = WaitableAnswer(201, (), b'{"lease":"x"}')
REFUSED = WaitableAnswer(429, (), b'{"error":"too_many_questions"}')


def scripted(
    *answers: WaitableAnswer | Exception, takes_s: float = 0.0
) -> Callable[[], Awaitable[WaitableAnswer]]:
    """Gives one answer after the other, and the last one for ever."""
    left = list(answers)

    async def ask() -> WaitableAnswer:
        await asyncio.sleep(takes_s)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


class Undone:
    def __init__(self) -> None:
        self.answers: list[WaitableAnswer] = []

    async def __call__(self, answer: WaitableAnswer) -> None:
        self.answers.append(answer)


def asking(ask: Callable[[], Awaitable[WaitableAnswer]], undo: Undone | None = None) -> Asking:
    return Asking(ask, undo or Undone(), lambda: False)


def always_new() -> Callable[[], Hashable]:
    numbers = count()
    return lambda: next(numbers)


def fails() -> Hashable:
    raise OSError("the database is locked")


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(asyncio.ensure_future(work), 20)

    asyncio.run(bounded())


@pytest.mark.parametrize("changes", [fails, lambda: 1])
def test_time_is_up_in_time_even_if_changes_cannot_be_found_out(changes: Callable[[], Hashable]) -> None:
    async def work() -> None:
        room, began = WaitingRoom(changes, 0.01), time.monotonic()
        assert await room.answer("k", asking(scripted(NOTHING)), 0.3) == NOTHING
        assert 0.3 <= time.monotonic() - began < 10
        assert len(room) == 0

    run(work())


def test_a_failure_to_ask_ends_no_waiting() -> None:
    async def work() -> None:
        room = WaitingRoom(always_new(), 0.01)
        ask = scripted(NOTHING, RuntimeError("damaged"), REFUSED, GRANTED)
        assert await room.answer("k", asking(ask), 10) == GRANTED

    run(work())


def test_nobody_waits_longer_because_others_are_slow_to_answer() -> None:
    async def work() -> None:
        room, began = WaitingRoom(always_new(), 0.01), time.monotonic()
        slow = asyncio.ensure_future(room.answer("slow", asking(scripted(NOTHING, takes_s=3)), 15))
        await asyncio.sleep(3.2)  # it is asked again, and that takes 3 s
        began = time.monotonic()
        assert await room.answer("k", asking(scripted(NOTHING)), 0.2) == NOTHING
        assert time.monotonic() - began < 2
        slow.cancel()

    run(work())


def test_who_is_being_asked_when_the_worker_ends_gets_what_is_granted() -> None:
    async def work() -> None:
        room = WaitingRoom(always_new(), 0.01)
        one = asyncio.ensure_future(room.answer("k", asking(scripted(NOTHING, GRANTED, takes_s=0.4)), 10))
        await asyncio.sleep(0.6)
        room.end()
        assert await one == GRANTED

    run(work())


@pytest.mark.parametrize("asked_s", [0.2, 0.7], ids=["the first time", "again"])
def test_what_is_granted_to_one_who_has_gone_is_undone(asked_s: float) -> None:
    async def work() -> None:
        room, undone = WaitingRoom(always_new(), 0.01), Undone()
        answers = (GRANTED,) if asked_s < 0.4 else (NOTHING, GRANTED)
        one = asyncio.ensure_future(room.answer("k", asking(scripted(*answers, takes_s=0.4), undone), 10))
        await asyncio.sleep(asked_s)
        one.cancel()
        await asyncio.sleep(1)
        assert undone.answers == [GRANTED]
        assert len(room) == 0

    run(work())


def test_those_who_came_first_are_answered_first() -> None:
    async def work() -> None:
        room, order, free = WaitingRoom(always_new(), 0.01), list[int](), list[WaitableAnswer]()

        async def ask() -> WaitableAnswer:
            return free.pop() if free else NOTHING

        async def wait(number: int) -> None:
            assert await room.answer("k", asking(ask), 10) == GRANTED
            order.append(number)

        waiting = []
        for number in range(3):
            waiting.append(asyncio.ensure_future(wait(number)))
            await asyncio.sleep(0.05)
        for _ in waiting:
            free.append(GRANTED)
            await asyncio.sleep(0.1)
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2]

    run(work())


def test_no_more_may_wait_than_there_is_room_for() -> None:
    async def work() -> None:
        room = WaitingRoom(lambda: 1, 0.01)
        most = waiting_room.MAX_WAITING_REQUESTS
        waiting = [
            asyncio.ensure_future(room.answer(number % 2, asking(scripted(NOTHING)), 10))
            for number in range(most + 20)
        ]
        while len(room) + sum(one.done() for one in waiting) < most + 20:
            await asyncio.sleep(0.01)
        assert len(room) == most
        assert sum(one.done() for one in waiting) == 20
        assert {one.result() for one in waiting if one.done()} == {NOTHING}
        room.end()
        ended = {answer for answer in await asyncio.gather(*waiting) if answer != NOTHING}
        assert {(answer.status, b'"stopping"' in answer.body) for answer in ended} == {(503, True)}
        assert len(room) == 0

    run(work())
