"""The answers to questions about one state of fleet and leases, since many agents ask the same question."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from machines_server.contract.routing import RouteJson
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.preference import Order
from machines_server.core.routing.question import Question
from machines_server.errors import BadParameterError
from machines_server.services.byte_cache import ByteCache
from machines_server.store.values import LeaseSnapshot

MAX_CACHE_BYTES = 16 * 2**20
"""The size of the answers cached while fleet and leases stay the same."""
MAX_PREPARED = 8
"""How many questions are answered in advance for each new state of the fleet."""


class RouteReply(NamedTuple):
    """What GET /api/route answers: the JSON of a Route or, unless a machine `is_found`, of a NoMachine.

    Without a machine, waiting for `retry_after_s` seconds may help, unless it is None; the `concerned` are
    machines that may become fit.
    """

    json: bytes
    is_found: bool
    retry_after_s: float | None = None
    concerned: Sequence[str] = ()


class Found(NamedTuple):
    """The candidates for a question, and their JSON."""

    order: Order
    json: RouteJson


Answer = Found | RouteReply | BadParameterError
"""The answer to a question: candidates, that there are none, or why it cannot be answered."""


class AnswerCache:
    """Answers about one state of fleet and leases."""

    def __init__(self, fleet: Fleet, snapshot: LeaseSnapshot) -> None:
        self.fleet, self.snapshot = fleet, snapshot
        self.answers: ByteCache[Question, Answer] = ByteCache(MAX_CACHE_BYTES)
        self.asked: dict[Question, int] = {}
        """The first MAX_PREPARED questions that were asked, with their sizes in bytes."""
        self._being_answered: dict[Question, threading.Lock] = {}

    def note(self, question: Question, size_bytes: int) -> None:
        """Note that a question of that size was asked."""
        if len(self.asked) < MAX_PREPARED:
            self.asked[question] = size_bytes

    def put(self, question: Question, answer: Answer, size_bytes: int) -> None:
        """Keep the answer to a question of that size."""
        self.answers.put(question, answer, _size_bytes(answer) + size_bytes)

    @contextmanager
    def answering(self, question: Question) -> Iterator[None]:
        """Let one thread answer a question: others that ask the same wait, and then find it in the cache."""
        with self._being_answered.setdefault(question, threading.Lock()):
            try:
                yield
            finally:
                self._being_answered.pop(question, None)

    def is_of(self, fleet: Fleet, snapshot: LeaseSnapshot) -> bool:
        """Whether the answers are about that fleet with those leases."""
        return self.fleet is fleet and self.snapshot.version == snapshot.version


def cache_of(fleet: Fleet, snapshot: LeaseSnapshot, *caches: AnswerCache) -> AnswerCache:
    """The first cache with answers about that fleet and those leases, else a new one."""
    return next((cache for cache in caches if cache.is_of(fleet, snapshot)), None) or AnswerCache(
        fleet, snapshot
    )


def _size_bytes(answer: Answer) -> int:
    if isinstance(answer, Found):
        return answer.json.size_bytes
    return len(answer.json) if isinstance(answer, RouteReply) else sum(map(len, answer.did_you_mean))
