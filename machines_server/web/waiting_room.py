"""Requests that wait in the event loop for an answer with a result: when and in what order to ask again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, NamedTuple

import msgspec

from machines_server.contract.errors import error_json
from machines_server.web.messages import JSON_TYPE, NO_SNIFF, Headers

log = logging.getLogger(__name__)

CHANGES_CHECK_S = 0.1
"""How often to check whether anything has changed, while somebody waits."""
MAX_WAITING_REQUESTS = 1000
"""How many requests of a worker may wait; any further one is answered at once."""
_TRY_LATER = {"busy", "too_many_questions", "store_unavailable"}
"""The errors that say nothing about the question."""


class _Result(msgspec.Struct):
    """The part of an answer that tells whether it has a result."""

    error: str | None = None
    did_you_mean: list[str] = []
    events: list[Any] | None = None


_read = msgspec.json.Decoder(_Result).decode


class WaitableAnswer(NamedTuple):
    """A complete answer of the inner application."""

    status: int
    headers: Headers
    body: bytes

    def has_result(self) -> bool:
        """Return whether it is worth sending now; False if waiting may lead to a better one."""
        result = self._result()
        if result.error == "no_machine":
            return bool(result.did_you_mean)
        return result.error not in _TRY_LATER and result.events != []

    def says_nothing(self) -> bool:
        """Return whether it is an error that says nothing about the question, such as `busy`."""
        return self._result().error in _TRY_LATER

    def _result(self) -> _Result:
        try:
            return _read(self.body)
        except msgspec.MsgspecError:
            return _Result()


_STOPPING_JSON = error_json("stopping", "The server is stopping; ask again.")
_STOPPING = WaitableAnswer(
    503,
    (
        (b"content-type", JSON_TYPE.encode()),
        (b"content-length", b"%d" % len(_STOPPING_JSON)),
        (b"retry-after", b"1"),
        NO_SNIFF,
    ),
    _STOPPING_JSON,
)


class Asking(NamedTuple):
    """How to `ask` for a waiting request, and how to `undo` a grant that nobody is there to take.

    With `ask_at_end`, each request asks for itself at its end: its answer may differ from those of others.
    """

    ask: Callable[[], Awaitable[WaitableAnswer]]
    undo: Callable[[WaitableAnswer], Awaitable[None]]
    has_gone: Callable[[], bool]
    ask_at_end: bool = False


class _Waiter:
    """One request that waits until a time by the monotonic clock."""

    def __init__(self, asking: Asking, until: float) -> None:
        self.asking, self.until = asking, until
        self.is_being_asked = False
        self.answer: asyncio.Future[WaitableAnswer] = asyncio.get_running_loop().create_future()

    def must_end(self) -> bool:
        """Return whether it must not wait any longer."""
        return self.asking.has_gone() or time.monotonic() >= self.until


class _Queue:
    """Requests that wait for the same thing, and the latest answer to the first of them, without a result."""

    def __init__(self, last: WaitableAnswer) -> None:
        self.last, self.waiters = last, list[_Waiter]()
        self.is_new = True

    def finish(self, waiter: _Waiter, answer: WaitableAnswer) -> None:
        """Give a request its answer."""
        self.leave(waiter)
        if not waiter.answer.done():
            waiter.answer.set_result(answer)

    def leave(self, waiter: _Waiter) -> None:
        """Remove a request."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)


class WaitingRoom:
    """The waiting requests of one worker, in a queue for each thing that is asked for."""

    def __init__(self, changes: Callable[[], Hashable], check_s: float = CHANGES_CHECK_S) -> None:
        """`changes` returns another value when something has changed; it is called in a thread."""
        self._changes, self._check_s = changes, check_s
        self._queues: dict[Hashable, _Queue] = {}
        self._tasks = set[asyncio.Task[None]]()
        self._is_checking = self._has_ended = False

    def __len__(self) -> int:
        return sum(len(queue.waiters) for queue in self._queues.values())

    def end(self) -> None:
        """Answer all waiting requests now, since the worker ends."""
        self._has_ended = True
        for queue in self._queues.values():
            # One that is being asked may get a lease, and has its answer when that has come.
            for waiter in [one for one in queue.waiters if not one.is_being_asked]:
                queue.finish(waiter, self._without_result(queue))

    async def answer(self, key: Hashable, asking: Asking, wait_s: float) -> WaitableAnswer:
        """The answer once it has a result, after `wait_s` at the latest; first come, first served.

        `key` is equal for questions for the same thing, whose answers without a result are the same.
        """
        until = time.monotonic() + wait_s
        queue = self._queues.get(key)
        if queue is None:
            answer = await self._first_answer(asking)
            if answer.has_result() or answer.says_nothing():
                return answer
            queue = self._queues.get(key) or _Queue(answer)
        if self._has_ended or len(self) >= MAX_WAITING_REQUESTS:
            return self._without_result(queue)
        waiter = _Waiter(asking, until)
        self._queues[key] = queue
        queue.waiters.append(waiter)
        self._begin_checking()
        try:
            await asyncio.wait([waiter.answer], timeout=until - time.monotonic())
            if waiter.is_being_asked:
                await asyncio.wait([waiter.answer])
            if waiter.answer.done():
                return waiter.answer.result()
        finally:
            queue.leave(waiter)
            if not queue.waiters and self._queues.get(key) is queue:
                del self._queues[key]
        return await asking.ask() if asking.ask_at_end else queue.last

    def _without_result(self, queue: _Queue) -> WaitableAnswer:
        """The latest answer; a worker that ends cannot say that no machine will become fit."""
        return _STOPPING if self._has_ended and queue.last.status == 503 else queue.last

    async def _first_answer(self, asking: Asking) -> WaitableAnswer:
        asked = asyncio.ensure_future(asking.ask())
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:  # the client has gone meanwhile
            self._in_background(self._undo_when_done(asked, asking))
            raise

    async def _undo_when_done(self, asked: Awaitable[WaitableAnswer], asking: Asking) -> None:
        await asking.undo(await asked)

    def _begin_checking(self) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._in_background(self._check())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check(self) -> None:
        """Ask again for the waiting requests until there are none."""
        seen: Hashable = None
        try:
            while self._queues:
                began = time.monotonic()
                found = await self._version()
                for queue in list(self._queues.values()):
                    # One that came while the version was looked up may have asked before the change.
                    if found != seen or queue.is_new:
                        queue.is_new = False
                        await self._serve(queue)
                seen = found
                # At most half of the time is spent on waiting requests.
                await asyncio.sleep(max(self._check_s, time.monotonic() - began))
        finally:
            self._is_checking = False

    async def _version(self) -> Hashable:
        """A value that differs after a change; different each time while the version cannot be read."""
        try:
            return await asyncio.to_thread(self._changes)
        except Exception:
            log.exception("changes cannot be detected")
            return object()

    async def _serve(self, queue: _Queue) -> None:
        """Answer the requests of a queue that can be answered, in their order."""
        while queue.waiters:
            waiter = queue.waiters[0]
            if waiter.asking.has_gone():
                queue.finish(waiter, queue.last)
                continue
            answer = await self._asked(waiter, queue.last)
            if answer.has_result():
                if waiter in queue.waiters:
                    queue.finish(waiter, answer)
                else:
                    await self._undo(waiter, answer)
                continue
            if not answer.says_nothing():
                queue.last = answer
            if self._has_ended or waiter.must_end():
                queue.finish(waiter, self._without_result(queue))
            return

    async def _asked(self, waiter: _Waiter, otherwise: WaitableAnswer) -> WaitableAnswer:
        waiter.is_being_asked = True
        try:
            return await waiter.asking.ask()
        except Exception:
            log.exception("a waiting request could not be answered")
            return otherwise
        finally:
            waiter.is_being_asked = False

    async def _undo(self, waiter: _Waiter, answer: WaitableAnswer) -> None:
        try:
            await waiter.asking.undo(answer)
        except Exception:
            log.exception("a lease granted to a client that has disconnected could not be undone")
