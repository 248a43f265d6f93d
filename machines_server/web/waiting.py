"""Requests that wait in the event loop until they can be answered, or until their time is up.

`wait_s` in GET /api/route, POST /api/leases and GET /api/events. The inner application answers at once; an
answer without a result is held back, and the question is asked again when something has changed.
"""

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import structs

from machines_server.contract.history_queries import EventsQuery, read_query
from machines_server.contract.requests import LeaseParameters, route_parameters, validated
from machines_server.errors import BadParameterError
from machines_server.web.messages import Application, Message, Receive, Scope, Send, header
from machines_server.web.ready_advice import ROUTE
from machines_server.web.waiting_room import Asking, WaitableAnswer, WaitingRoom

_LEASES, _EVENTS = "/api/leases", "/api/events"
_PATHS = {("GET", ROUTE), ("POST", _LEASES), ("GET", _EVENTS)}
_MAX_QUESTION_BYTES = 2**16
_NO_BODY: Message = {"type": "http.request", "body": b"", "more_body": False}
_read_body = msgspec.json.Decoder(dict[str, Any]).decode


class Waiting:
    """Lets requests wait that ask for it; passes on all others."""

    def __init__(self, application: Application, room: WaitingRoom) -> None:
        self._application, self._room = application, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request when it has a result or its time is up."""
        if (scope["method"], scope["path"]) not in _PATHS:
            await self._application(scope, receive, send)
            return
        messages = await _body(receive) if scope["method"] == "POST" else ()
        wait_s, key = _wanted(scope, messages)
        if not wait_s:
            await self._application(scope, _replaying(messages, receive), send)
            return
        answering = asyncio.ensure_future(self._room.answer(key, self._asking(scope, messages), wait_s))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answer = answering.result()
                start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
                await send(start)
                await send({"type": "http.response.body", "body": answer.body})
        finally:
            answering.cancel()
            leaving.cancel()

    def _asking(self, scope: Scope, messages: Sequence[Message]) -> Asking:
        async def ask() -> WaitableAnswer:
            return await _captured(self._application, scope, messages)

        async def undo(answer: WaitableAnswer) -> None:
            if scope["method"] == "POST" and answer.status == 201:
                path = f"{_LEASES}/{_read_body(answer.body)['lease']}"
                release = {**scope, "method": "DELETE", "path": path, "raw_path": path.encode()}
                await _captured(self._application, release, ())

        # A lease for nobody would keep others from the machine. A client that only half closes the
        # connection cannot be told from one that has gone.
        has_gone = scope.get("is_half_closed", _never) if scope["method"] == "POST" else _never
        return Asking(ask, undo, has_gone, ask_at_end=header(scope, b"idempotency-key") is not None)


def _never() -> bool:
    return False


async def _disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> list[Message]:
    """The messages of a body, up to the maximum size of a question."""
    messages, size = list[Message](), 0
    while size <= _MAX_QUESTION_BYTES:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return messages


def _replaying(messages: Sequence[Message], receive: Receive) -> Receive:
    """Replay the messages, then pass on what comes after them."""
    left = iter(messages)

    async def replay() -> Message:
        for message in left:
            return message
        return await receive()

    return replay


async def _captured(application: Application, scope: Scope, messages: Sequence[Message]) -> WaitableAnswer:
    """The complete answer of an application, which sends it in two messages."""
    sent: list[Message] = []

    async def capture(message: Message) -> None:
        sent.append(message)

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    await application(dict(scope), _replaying(messages or [_NO_BODY], gone), capture)
    start, *bodies = sent
    return WaitableAnswer(start["status"], start["headers"], b"".join(one.get("body", b"") for one in bodies))


def _wanted(scope: Scope, messages: Sequence[Message]) -> tuple[float, Hashable]:
    """How long a request may wait, and what it asks for; 0 if it may not wait, or is invalid."""
    try:
        return _wanted_lease(messages) if scope["method"] == "POST" else _wanted_answer(scope)
    except (BadParameterError, msgspec.MsgspecError):  # the inner application says what is wrong
        return 0.0, None


def _wanted_lease(messages: Sequence[Message]) -> tuple[float, Hashable]:
    is_whole = bool(messages) and messages[-1]["type"] == "http.request" and not messages[-1].get("more_body")
    body = b"".join(message.get("body", b"") for message in messages)
    if not is_whole or b"wait_s" not in body:
        return 0.0, None
    parameters = validated(LeaseParameters, _read_body(body))
    return parameters.wait_s, (_LEASES, parameters.question())


def _wanted_answer(scope: Scope) -> tuple[float, Hashable]:
    if b"wait_s" not in scope["query_string"]:
        return 0.0, None
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if scope["path"] == ROUTE:
        parameters = route_parameters(query)
        return parameters.wait_s, (ROUTE, parameters.question())
    events = read_query(EventsQuery, query.items())
    return events.wait_number(), (_EVENTS, structs.replace(events, wait_s=""))
