"""Whatever a server answers is an answer or a ClientError, never anything else."""

import json
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_client import ClientError, reading, routing
from machines_client.flows import Connect, Flow, Send, Session
from machines_client.messages import Reply
from tests.client.scripted_server import LEASE, NO_MACHINE, ROUTE

SESSION = Session.of("127.0.0.1:3038", 10, 0, None)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
QUESTIONS: dict[str, Callable[[], Flow[Any]]] = {
    "machines": lambda: reading.machines(SESSION),
    "infrastructure": lambda: reading.infrastructure(SESSION),
    "history": lambda: reading.history(SESSION, "box"),
    "events": lambda: reading.events(SESSION),
    "models": lambda: reading.models(SESSION),
    "ready": lambda: reading.ready(SESSION),
    "pick": lambda: routing.pick(SESSION, "m"),
    "leases": lambda: routing.leases(SESSION),
    "reserve": lambda: routing.reserve(SESSION, "m"),
}
GOOD: dict[str, Any] = {
    "machines": {"machines": [], "errors": [], "config_dir": "", "total": 0},
    "history": {
        "from": "",
        "to": "",
        "step_s": 1,
        "series": [{"metric": "", "unit": "", "points": [[1, 2, 3, 4, 5]]}],
    },
    "events": {"events": [{"id": 1, "at": "", "machine": "", "type": ""}], "next": 1, "truncated": True},
    "pick": ROUTE,
    "leases": {"leases": [LEASE], "total": 1},
    "reserve": LEASE,
}


def play(flow: Flow[Any], status: int, headers: dict[str, str], content: bytes) -> None:
    running = cast(Generator[Any, Any, Any], flow)
    step = next(running)
    try:
        while True:
            if isinstance(step, Send):
                step = running.send(Reply(status, headers, content))
            else:
                assert isinstance(step, Connect)
                step = running.send(None)
    except StopIteration:
        pass


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """A good answer in which a value at any depth is another."""
    if isinstance(good, dict) and good and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(good)))
        return {**good, key: draw(changed(good[key]))}
    if isinstance(good, list) and good and draw(st.booleans()):
        return [draw(changed(good[0])), *good[1:]]
    return draw(JSON)


@given(st.data(), st.sampled_from(sorted(QUESTIONS)))
def test_any_good_answer(data: st.DataObject, name: str) -> None:
    body = data.draw(changed(GOOD.get(name, {})))
    with suppress(ClientError):
        play(QUESTIONS[name](), 200, {}, json.dumps(body).encode())


@given(
    st.sampled_from(sorted(QUESTIONS)),
    st.sampled_from([302, 400, 404, 409, 429, 500, 502, 503]),
    changed(NO_MACHINE) | JSON,
    st.text(max_size=40) | st.sampled_from(["9" * 400, "Fri, 31 Dec 9999 23:59:59 -2359", "٣"]),
)
def test_any_error(name: str, status: int, body: Any, retry_after: str) -> None:
    headers = {"retry-after": retry_after, "location": retry_after}
    if name == "ready" and status == 503:
        return
    with pytest.raises(ClientError):
        play(QUESTIONS[name](), status, headers, json.dumps(body).encode())


@given(st.binary(max_size=50))
def test_any_bytes(content: bytes) -> None:
    with pytest.raises(ClientError, match="machines-server"):
        play(QUESTIONS["leases"](), 200, {}, content)
