"""The advice that this process, and others, have just given."""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple
from weakref import WeakKeyDictionary

from machines_server.core.model_names import model_key
from machines_server.core.routing.advised import Advice, ends_at, still_counts
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.preference import Order
from machines_server.core.routing.question import Question
from machines_server.store.api import AdviceBoard

BURST_S = 0.25
"""Advice of one kind within this time counts as long as the latest of it."""

TELL_AGAIN_S = 1.0
"""The minimum interval between two announcements that one machine has to load one model."""
MAX_CHANGES = 1000
"""After this many changes, everything is recounted."""
MAX_HOLDERS = 10_000
"""How many of the latest questions are remembered with their holders."""


class _Burst(NamedTuple):
    """Advice of one kind that was given within BURST_S; it counts as long as the latest."""

    began_at: float
    latest: Advice
    times: int


_Kind = tuple[str, str, bool]
"""The machine, the key of the model, and whether that has to be loaded."""


class GivenAdvice:
    """Orders candidates by what was advised before; shared by the threads of a process.

    Only the order of later candidates depends on it: it reserves nothing. Other processes are told of models
    that have to be loaded, since two of those on one machine would evict each other.
    """

    def __init__(self, board: AdviceBoard | None = None) -> None:
        self._board, self._lock = board, threading.Lock()
        self._given: dict[_Kind, deque[_Burst]] = {}
        """The oldest first."""
        self._ends: list[tuple[float, _Kind]] = []
        """A heap of when the first burst of each kind may end: more may have been added to it since."""
        self._by_holder: dict[tuple[str, Question], Advice] = {}
        self._told_at: dict[tuple[str, str], float] = {}
        self._counts, self._loads = Counter[str](), dict[str, set[str]]()
        """How often each machine was advised; by key of a model, the machines that are to load it."""
        self._generation, self._changed = 1, list[str]()
        """The machines for which these changed, in that order, since everything was counted."""
        self._known_to = WeakKeyDictionary[Order, tuple[int, int]]()
        """The generation and how many of its changes an order takes into account."""
        self._fleet: Fleet | None = None
        """What the advice was last reviewed for."""
        self._reviewed_at = 0.0

    def order(
        self,
        question: Question,
        order: Order,
        fleet: Fleet,
        now: float,
        *,
        holder: str = "",
        is_remembered: bool = True,
        waits: bool = True,
    ) -> Sequence[int]:
        """The places of the candidates, beginning with the one to advise.

        A `holder` who asks the same question again gets the same machine first. The advice counts as a lease
        in later answers if it `is_remembered`. Unless the caller `waits`, raises BlockingIOError while
        another thread is here.
        """
        told = self._board.news() if self._board else ()
        if not self._lock.acquire(blocking=waits):
            raise BlockingIOError
        try:
            self._review(fleet, told, now)
            places = self._best_first(order)
            before = self._by_holder.get((holder, question)) if holder else None
            place = order.place_of(before.machine) if before and still_counts(before, fleet, now) else None
            if place is not None:
                return [place, *(other for other in places if other != place)]
            if not is_remembered:
                return places
            advice = Advice.of(question, order.candidates[places[0]], holder, now)
            self._remember(advice, fleet)
            is_news = self._is_news(advice)
        finally:
            self._lock.release()
        if is_news and self._board:
            self._board.add(advice)
        return places

    def prepare(self, orders: Iterable[Order], fleet: Fleet, now: float) -> None:
        """Do in advance what the first answers about a fleet, in these orders, would have to do."""
        with self._lock:
            self._review(fleet, (), now)
            for order in orders:
                self._best_first(order)

    def _best_first(self, order: Order) -> Sequence[int]:
        """The places of the candidates given all advice."""
        generation, known = self._known_to.get(order, (0, 0))
        changed = set(self._changed[known:]) if generation == self._generation else None
        self._known_to[order] = self._generation, len(self._changed)
        return order.best_first(self._counts, self._loads, changed)

    def _remember(self, advice: Advice, fleet: Fleet) -> None:
        kind = advice.machine, model_key(advice.model), advice.loads_s is not None
        bursts = self._given.setdefault(kind, deque())
        before = bursts[-1] if bursts else None
        if before and 0 <= advice.at - before.began_at < BURST_S:
            bursts[-1] = _Burst(before.began_at, advice, before.times + 1)
        else:
            bursts.append(_Burst(advice.at, advice, 1))
        end = ends_at(advice, fleet)
        if len(bursts) == 1 and (before is None or end < ends_at(before.latest, fleet)):
            heappush(self._ends, (end, kind))
        self._count(kind, 1)
        if advice.holder and advice.question:
            asked = advice.holder, advice.question
            self._by_holder.pop(asked, None)
            self._by_holder[asked] = advice
            if len(self._by_holder) > MAX_HOLDERS:
                del self._by_holder[next(iter(self._by_holder))]

    def _is_news(self, advice: Advice) -> bool:
        """Return whether to tell other processes about advice, and note that they are told."""
        key = advice.machine, model_key(advice.model)
        if advice.loads_s is None or 0 <= advice.at - self._told_at.get(key, float("-inf")) < TELL_AGAIN_S:
            return False
        self._told_at[key] = advice.at
        return True

    def _review(self, fleet: Fleet, told: Iterable[Advice], now: float) -> None:
        """Forget what no longer counts, and remember what others have told."""
        if self._fleet is fleet and self._reviewed_at <= now and len(self._changed) < MAX_CHANGES:
            self._forget_ended(fleet, now)
        else:
            self._count_anew(fleet, now)
        self._fleet, self._reviewed_at = fleet, now
        for advice in told:
            if still_counts(advice, fleet, now):
                self._remember(advice, fleet)

    def _forget_ended(self, fleet: Fleet, now: float) -> None:
        """Forget what has ended since the last review for the same fleet, whose samples are the same."""
        while self._ends and self._ends[0][0] <= now:
            _, kind = heappop(self._ends)
            if bursts := self._given.get(kind):
                while bursts and ends_at(bursts[0].latest, fleet) <= now:
                    self._count(kind, -bursts.popleft().times)
                self._keep(kind, bursts, fleet)

    def _count_anew(self, fleet: Fleet, now: float) -> None:
        self._told_at = {key: at for key, at in self._told_at.items() if 0 <= now - at < TELL_AGAIN_S}
        self._counts.clear()
        self._loads.clear()
        self._ends.clear()
        for kind, bursts in list(self._given.items()):
            while bursts and not still_counts(bursts[0].latest, fleet, now):
                bursts.popleft()
            self._count(kind, sum(burst.times for burst in bursts))
            self._keep(kind, bursts, fleet)
        self._generation += 1
        self._changed.clear()

    def _keep(self, kind: _Kind, bursts: deque[_Burst], fleet: Fleet) -> None:
        """Note when the first burst of a kind ends, or forget the kind if there is none."""
        if bursts:
            heappush(self._ends, (ends_at(bursts[0].latest, fleet), kind))
        else:
            del self._given[kind]

    def _count(self, kind: _Kind, times: int) -> None:
        machine, key, loads = kind
        self._changed.append(machine)
        self._counts[machine] += times
        if not self._counts[machine]:
            del self._counts[machine]
        if loads:
            machines = self._loads.setdefault(key, set())
            if times > 0:
                machines.add(machine)
            elif not self._given[kind]:
                machines.discard(machine)
