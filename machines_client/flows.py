"""What a client does for a question, written once for both clients.

A flow is a generator: it yields the steps that need a network or a clock, and its client does them, waiting
in a thread or an event loop, and sends back each result. It returns the answer.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from itertools import count
from random import SystemRandom
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar
from urllib.parse import urlsplit

from machines_client.arguments import checked_retries, checked_stale_s, checked_timeout_s
from machines_client.decoding import Answer, decode
from machines_client.errors import ClientError, NoMachine, ServerUnavailable, ServerUnreachable, TooMany
from machines_client.last_answers import LastAnswers
from machines_client.messages import Request, good_content, json_object
from machines_client.signing import Sign, signing
from machines_client.urls import is_loopback, server_url

MAX_WAIT_S = 60.0
"""The longest that the server waits before it answers; to wait longer, ask again."""
_FIRST_PAUSE_S, _FIRST_PAUSE_IF_REFUSED_S = 0.1, 0.5
"""Before the first retry, doubled for each further one; a server that is restarted listens after seconds."""
_SHORT_S = 0.05
_ASK_AGAIN_S = 5.0
"""The longest pause in a wait that the server did not accept, since leases may end earlier than expected."""

T = TypeVar("T")
P = ParamSpec("P")
AnAnswer = TypeVar("AnAnswer", bound=Answer)
_random = SystemRandom()


class Send(NamedTuple):
    """Send a request, within `timeout_s` seconds to the end of its reply; results in a Reply."""

    request: Request
    timeout_s: float


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Connect(NamedTuple):
    """Open a connection and close it; results in why that failed, or None."""

    hostname: str
    port: int
    timeout_s: float


Step = Send | Pause | Connect
Flow = Generator[Step, Any, T]


@dataclass(frozen=True)
class Session:
    """The server that a client asks, and how patiently."""

    url: str
    timeout_s: float
    retries: int
    last_answers: LastAnswers | None = field(repr=False)
    sign: Sign | None = field(repr=False)

    @classmethod
    def of(
        cls,
        url: str | None,
        timeout_s: float,
        retries: int,
        stale_s: float | None,
        key: tuple[str | None, str | os.PathLike[str] | None, str | None] = (None, None, None),
    ) -> "Session":
        """A session from a client's arguments; raises TypeError, ValueError or ClientError.

        `key` is the agent, its private key and passphrase.
        """
        return cls(
            server_url(url),
            checked_timeout_s("timeout_s", timeout_s),
            checked_retries(retries),
            None if stale_s is None else LastAnswers(checked_stale_s(stale_s)),
            signing(*key),
        )

    @property
    def host(self) -> str:
        """The host in the URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_here(self) -> bool:
        """Whether the server runs on this machine."""
        return is_loopback(self.host)


Question = Callable[Concatenate[Session, P], Flow[T]]
"""A question that both clients can ask: a function that returns a flow."""


class Content(NamedTuple):
    """The content of an answer, which is 0 seconds old unless the server is away."""

    content: bytes
    age_s: float = 0.0


def fetch(session: Session, request: Request) -> Flow[Content]:
    """The content of a good reply, after retries where they do no harm; raises ClientError."""
    if session.last_answers is None or not request.is_kept:
        return Content((yield from _delivered(session, request, _FIRST_PAUSE_IF_REFUSED_S)))
    question = request.waiting(0).target
    # A caller that accepts an old answer does not wait for a restart.
    has_old = session.last_answers.has(question, time.monotonic())
    try:
        content = yield from _delivered(
            session, request, _FIRST_PAUSE_S if has_old else _FIRST_PAUSE_IF_REFUSED_S
        )
    except (ServerUnreachable, ServerUnavailable) as error:
        return Content(*session.last_answers.recall(question, error, time.monotonic()))
    session.last_answers.keep(question, content, time.monotonic())
    return Content(content)


def ask(session: Session, request: Request) -> Flow[dict[str, Any]]:
    """The JSON object that the server answers."""
    return json_object((yield from fetch(session, request)).content, session.url, request.path)


def answer(session: Session, request: Request, kind: type[AnAnswer]) -> Flow[AnAnswer]:
    """The server's answer as a dataclass."""
    content, age_s = yield from fetch(session, request)
    return decode(kind, json_object(content, session.url, request.path), age_s=age_s)


def wait_for_machine(
    session: Session, request: Request, wait_s: float, kind: type[AnAnswer]
) -> Flow[AnAnswer]:
    """The answer once a machine is fit; raises NoMachine after `wait_s` seconds, or if waiting is no use."""
    ends = time.monotonic() + wait_s
    while True:
        began = time.monotonic()
        asked_s = min(max(ends - began, 0.0), MAX_WAIT_S)
        try:
            return (yield from answer(session, request.waiting(asked_s), kind))
        except NoMachine as error:
            now = time.monotonic()
            left_s = ends - now
            if error.retry_after_s is None or left_s < _SHORT_S:
                raise
            # A server that has waited as long as it may is asked again at once.
            has_waited = now - began > asked_s - _SHORT_S
            pause_s = _SHORT_S if has_waited else min(error.retry_after_s, _ASK_AGAIN_S)
        yield Pause(min(_jittered(pause_s), left_s))


def _delivered(session: Session, request: Request, first_pause_if_refused_s: float) -> Flow[bytes]:
    now = time.monotonic()
    wait_ends, ends = now + request.wait_s, now + request.wait_s + session.timeout_s
    for attempt in count():
        now = time.monotonic()
        try:
            reply = yield Send(request.waiting(wait_ends - now), max(ends - now, _SHORT_S))
            return good_content(request, reply, session.url)
        except ClientError as error:
            left_s = ends - time.monotonic()
            is_refused = isinstance(error, ServerUnreachable) and error.is_refused
            first_s = first_pause_if_refused_s if is_refused else _FIRST_PAUSE_S
            pause_s = _pause_before_retry(error, first_s * 2**attempt, left_s)
            if not request.is_repeatable or attempt >= session.retries or pause_s is None:
                raise
        yield Pause(pause_s)
    raise AssertionError  # count() does not end


def _pause_before_retry(error: ClientError, usual_s: float, left_s: float) -> float | None:
    """How many seconds to wait before the same request is sent again; None if that is no use."""
    if not isinstance(error, ServerUnreachable | ServerUnavailable | TooMany):
        return None
    pause_s = _jittered(error.retry_after_s or usual_s)
    return pause_s if pause_s < left_s else None


def _jittered(seconds: float) -> float:
    """A little more, at random, so that clients that were refused together do not return together."""
    return seconds * _random.uniform(1.0, 1.5)


def get(path: str, query: Mapping[str, Any] | None = None, **more: Any) -> Request:
    """A question that only reads: it may be repeated, and its last known answer kept."""
    return Request("GET", path, query or {}, **{"is_repeatable": True, "is_kept": True, **more})
