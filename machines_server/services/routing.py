"""Advice on where to send work, and leases on machines."""

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from machines_server.contract import leases as lease_answers
from machines_server.contract.encoding import encode
from machines_server.contract.requests import (
    LeaseParameters,
    RenewParameters,
    RouteParameters,
    route_parameters,
    validated,
)
from machines_server.contract.routing import no_machine
from machines_server.core.model_names import model_key
from machines_server.core.routing.answer import Ranking
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, Warmth, broken_reason
from machines_server.core.routing.preference import Order
from machines_server.core.routing.question import Question
from machines_server.core.text import clip
from machines_server.errors import BadParameterError, ConflictError, NoMachineError, UnknownLeaseError
from machines_server.services.advice import GivenAdvice
from machines_server.services.answer_cache import Answer, AnswerCache, Found, RouteReply, cache_of
from machines_server.services.byte_cache import ByteCache
from machines_server.services.choice import Choice
from machines_server.services.held_leases import held_lease, held_leases
from machines_server.services.misses import explaining_misses, may_become_fit, near_misses
from machines_server.services.pauses import Pauses
from machines_server.services.permissions import Caller, Permissions
from machines_server.services.rankings import Rankings
from machines_server.services.recent_state import LARGE_FLEET
from machines_server.store.api import AdviceBoard, Leases
from machines_server.store.values import LeaseRequest, LeaseSnapshot

_Granted = TypeVar("_Granted")

MAX_KEY_CHARACTERS = 200
"""The longest Idempotency-Key."""
MAX_PREPARATION_S = 1.0
"""The most time spent on answering questions in advance."""
MAX_QUERIES_BYTES = 2**20
"""The total size of the remembered queries, which `route_nowait` can answer."""
MAX_AT_ONCE_BYTES = 2**19
"""A larger answer (over some 1,500 machines) would keep all other requests waiting too long."""

_EVERYBODY, _NOBODY = Permissions(), Caller()


class Routing:
    """Answers which machine to use, given the state of the fleet and the leases of all processes."""

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        recent_fleet: Callable[[Callable[[Fleet], None]], Fleet],
        leases: Leases,
        look_for: Callable[[str], None] = lambda _: None,
        poll_soon: Callable[[Sequence[str]], None] = lambda _: None,
        board: AdviceBoard | None = None,
        permissions: Permissions = _EVERYBODY,
        newest_fleet: Callable[[], Fleet] | None = None,
        recent_fleet_nowait: Callable[[Callable[[Fleet], None]], Fleet | None] = lambda _: None,
    ) -> None:
        """`recent_fleet` may return a slightly outdated fleet, good enough where nothing is promised.

        It calls its argument with fleets that it will soon return. `recent_fleet_nowait` returns the same,
        or None if that would block. `newest_fleet`, if there is one, has what other servers wrote a moment
        ago and `fleet` may lack.

        `look_for` is called with a model that may be on a disk by now, to have machines checked for it, and
        `poll_soon` with the machines whose state matters to somebody who may ask again.
        """
        self._fleet, self._recent_fleet, self._leases = fleet, recent_fleet, leases
        self._newest_fleet, self._recent_fleet_nowait = newest_fleet or fleet, recent_fleet_nowait
        self._look_for, self._poll_soon = look_for, poll_soon
        # Waiting callers ask about the present, others about a fleet that may be older.
        self._present = self._recent = self._prepared = AnswerCache(Fleet(), LeaseSnapshot())
        self._cache_lock = threading.Lock()
        self._known_queries: ByteCache[bytes, RouteParameters] = ByteCache(MAX_QUERIES_BYTES)
        self._given, self._permissions, self._rankings = GivenAdvice(board), permissions, Rankings()

    def route(self, query: Mapping[str, list[str]], text: bytes | None = None) -> RouteReply:
        """The machine to use, other candidates, and rejections; raises BadParameterError.

        `route_nowait` may answer a query with the same `text`, if that is given, later.
        """
        parameters, snapshot = route_parameters(query), self._leases.read()
        if text is not None and not parameters.wait_s:
            self._known_queries.put(text, parameters, len(text) + parameters.size_bytes())
        question = parameters.question()
        if parameters.wait_s:  # it is asked again because something has changed, which must be seen
            fleet = self._fleet()
            with self._cache_lock:
                cache = self._present = cache_of(fleet, snapshot, self._present)
        else:
            fleet = self._recent_fleet(self._prepare)
            cache = self._recent_cache(fleet, snapshot)
            cache.note(question, parameters.size_bytes())
        answer = self._cached_answer(cache, question, parameters.size_bytes())
        if not isinstance(answer, Found) and len(fleet.states) < LARGE_FLEET:
            fleet = self._newest_fleet()
            with self._cache_lock:
                cache = self._present = cache_of(fleet, snapshot, cache, self._present)
            answer = self._cached_answer(cache, question, parameters.size_bytes())
        if isinstance(answer, BadParameterError):
            raise answer.with_traceback(None)
        if isinstance(answer, RouteReply):
            self._poll_soon(answer.concerned)
            return answer
        return self._advise(parameters, question, answer, fleet)

    def route_nowait(self, text: bytes) -> RouteReply | None:
        """The answer that `route` would give, if it is known from a query with the same text; else None.

        It waits for no other thread and no database. It may write a line to a file.
        """
        parameters = self._known_queries.get(text)
        if parameters is None:
            return None
        snapshot, fleet = self._leases.read_nowait(), self._recent_fleet_nowait(self._prepare)
        if snapshot is None or fleet is None:
            return None
        question, cache = parameters.question(), self._recent_cache(fleet, snapshot)
        cache.note(question, parameters.size_bytes())
        answer = cache.answers.get(question)
        if isinstance(answer, Found) and answer.json.size_bytes <= MAX_AT_ONCE_BYTES:
            with suppress(BlockingIOError):
                return self._advise(parameters, question, answer, fleet, waits=False)
        if isinstance(answer, RouteReply) and len(fleet.states) >= LARGE_FLEET:
            self._poll_soon(answer.concerned)
            return answer
        return None

    def lease(self, body: object, key: str | None, caller: Caller = _NOBODY) -> lease_answers.GrantedLease:
        """Choose a machine as `route` does, and lease it to the caller.

        Repeating a request with the same `key` returns the same lease. Raises NoMachineError,
        BadParameterError or ForbiddenError.
        """
        parameters = validated(LeaseParameters, body)
        if key is not None and not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            raise BadParameterError("Idempotency-Key", f"must have 1 to {MAX_KEY_CHARACTERS} characters")
        request = LeaseRequest(
            parameters.holder,
            parameters.ttl_s,
            caller.address,
            key,
            parameters.digest(),
            is_exclusive=parameters.exclusive,
            agent=caller.agent,
        )
        self._permissions.check_taking(caller)
        with self._polling_if_none_is_fit():
            return self._unless_refused(partial(self._leased, parameters.question(), request))

    def renew(self, lease: str, body: object, caller: Caller = _NOBODY) -> lease_answers.HeldLease:
        """Restart a lease's duration; raises ConflictError if its machine can no longer be used."""
        parameters = validated(RenewParameters, body)

        def renewed(fleet: Fleet) -> lease_answers.HeldLease:
            def check(current: Lease) -> None:
                self._permissions.check_ending(caller, current)
                if reason := broken_reason(current, fleet.state_of(current.machine), time.time()):
                    message = (
                        f"The lease on {current.machine} is broken: {reason}. Release it and ask for another."
                    )
                    raise ConflictError("lease_broken", message)

            held = self._leases.renew(fleet, lease, parameters.ttl_s, check)
            self._poll_soon([held.machine])
            return held_lease(held, self._leases.read().leases, fleet)

        return self._unless_refused(renewed)

    def release(self, lease: str, caller: Caller = _NOBODY) -> lease_answers.HeldLease:
        """End a lease."""
        fleet = self._fleet()
        released = self._leases.release(fleet, lease, partial(self._permissions.check_ending, caller))
        self._poll_soon([released.machine])
        return held_lease(released, (), fleet)

    def held_lease(self, lease: str) -> lease_answers.HeldLease:
        """One active lease; raises UnknownLeaseError."""
        for read in self._leases.read, self._leases.newest:
            leases = read().leases
            for held in leases:
                if held.id == lease:
                    return held_lease(held, leases, self._fleet())
        raise UnknownLeaseError(lease)

    def version(self) -> Hashable:
        """A value that changes when leases do."""
        return self._leases.read().version

    def leases(self) -> lease_answers.Leases:
        """All active leases, the first to end first."""
        fleet = self._fleet()
        held = held_leases(self._leases.newest().leases, fleet)
        return lease_answers.Leases(leases=held, total=len(held), expired_10m=self._leases.expired())

    def count_leases(self, fleet: Fleet) -> int:
        """How many leases are in force, after ending those whose time is up, given the present fleet."""
        self._leases.expire(fleet)
        return len(self._leases.read().leases)

    def _advise(
        self,
        parameters: RouteParameters,
        question: Question,
        found: Found,
        fleet: Fleet,
        *,
        waits: bool = True,
    ) -> RouteReply:
        """Put the candidates that were found into order, and give the advice to use the first."""
        places = self._given.order(
            question,
            found.order,
            fleet,
            time.time(),
            holder=parameters.holder,
            is_remembered=not parameters.explain,
            waits=waits,
        )
        return RouteReply(found.json.of(places), is_found=True)

    def _prepare(self, fleet: Fleet) -> None:
        """Answer the questions about the present fleet for one that will soon take its place."""
        until, known, pauses = time.monotonic() + MAX_PREPARATION_S, self._leases.read(), Pauses()
        ranked = list[tuple[Question, int]]()
        for question, size_bytes in list(self._recent.asked.items()):
            if time.monotonic() > until:
                break
            self._rankings.rank(question, fleet, known, pauses.pause)
            ranked.append((question, size_bytes))
        # Given the leases by now, which takes little time: few machines are evaluated again.
        cache = AnswerCache(fleet, self._leases.read())
        orders = []
        for question, size_bytes in ranked:
            answer = self._answer(question, fleet, cache.snapshot)
            cache.put(question, answer, size_bytes)
            if isinstance(answer, Found):
                orders.append(answer.order)
        self._given.prepare(orders, fleet, time.time())
        self._prepared = cache

    def _leased(self, question: Question, request: LeaseRequest, fleet: Fleet) -> lease_answers.GrantedLease:
        """A new lease on a machine of a fleet."""
        choice = Choice(question, fleet, lambda known: self._rank(question, fleet, known))

        def rank(other: Question) -> Ranking | None:
            return self._rankings.rank(other, fleet, choice.known) if choice.known else None

        with explaining_misses(question, fleet, rank):
            lease = self._leases.reserve(fleet, request, choice)
        self._poll_soon([lease.machine])
        # Reading a new lease again might fail, and its holder would not learn of it.
        leases = choice.leases_with(lease) or self._leases.read().leases
        return lease_answers.granted_lease(held_lease(lease, leases, fleet), choice.ranking)

    def _unless_refused(self, grant: Callable[[Fleet], _Granted]) -> _Granted:
        """What is granted with the fleet as it is known here, or else with the newest."""
        fleet = self._fleet()
        try:
            return grant(fleet)
        except (NoMachineError, BadParameterError, ConflictError):
            newest = self._newest_fleet()
            if newest is fleet:
                raise
        return grant(newest)

    @contextmanager
    def _polling_if_none_is_fit(self) -> Iterator[None]:
        try:
            yield
        except NoMachineError as error:
            self._poll_soon(may_become_fit(error.rejected))
            raise

    def _recent_cache(self, fleet: Fleet, snapshot: LeaseSnapshot) -> AnswerCache:
        with self._cache_lock:
            self._recent = cache_of(fleet, snapshot, self._recent, self._prepared, self._present)
            return self._recent

    def _cached_answer(self, cache: AnswerCache, question: Question, size_bytes: int) -> Answer:
        if (answer := cache.answers.get(question)) is not None:
            return answer
        with cache.answering(question):
            answer = cache.answers.get(question)
            if answer is None:
                answer = self._answer(question, cache.fleet, cache.snapshot)
                cache.put(question, answer, size_bytes)
            return answer

    def _answer(self, question: Question, fleet: Fleet, snapshot: LeaseSnapshot) -> Answer:
        def rank(other: Question) -> Ranking:
            return self._rankings.rank(other, fleet, snapshot)

        try:
            with explaining_misses(question, fleet, rank):
                ranking = self._rank(question, fleet, snapshot)
                order = Order(ranking.candidates, model_key(question.model))
                return Found(order, self._rankings.json(question, ranking))
        except NoMachineError as error:
            return RouteReply(
                encode(no_machine(error)),
                is_found=False,
                retry_after_s=error.retry_after_s,
                concerned=may_become_fit(error.rejected),
            )
        except BadParameterError as error:
            return error

    def _rank(self, question: Question, fleet: Fleet, snapshot: LeaseSnapshot) -> Ranking:
        """The ranking, with at least one candidate; raises NoMachineError if no machine is fit."""
        ranking = self._rankings.rank(question, fleet, snapshot)
        if question.model and (not ranking.candidates or ranking.candidates[0].warmth is Warmth.COLD):
            self._look_for(question.model)
        if not ranking.candidates:
            wanted = f" for {clip(question.model)}" if question.model else ""
            message = f"No suitable machine{wanted}: {near_misses(ranking.rejected)}."
            raise NoMachineError(message, ranking.rejected, ranking.retry_after_s)
        return ranking
