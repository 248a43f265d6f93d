"""The advice that this process, and others, have just given."""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from machines_server.core.model_names import model_key
from machines_server.core.routing.advised import Advice, is_counting, still_counting
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.preference import Order
from machines_server.core.routing.question import Question
from machines_server.store.api import AdviceBoard

REVIEW_S = 0.25
"""How long advice may outlive its time unless a sample ends it; reviewing costs time."""

TELL_AGAIN_S = 1.0
"""How long other processes are not told again about a model that a machine has to load."""
MAX_HOLDERS = 10_000
"""How many of the latest questions are remembered with their holders."""


class _Burst(NamedTuple):
    """Advice of one kind that was given within REVIEW_S; it counts as long as the latest."""

    began_at: float
    latest: Advice
    times: int


class GivenAdvice:
    """Orders candidates by what was advised before; shared by the threads of a process.

    Only the order of later candidates depends on it: it reserves nothing. Other processes are told of models
    that have to be loaded, since two of those on one machine would evict each other.
    """

    def __init__(self, board: AdviceBoard | None = None) -> None:
        self._board, self._lock = board, threading.Lock()
        self._given: dict[tuple[str, str, bool], deque[_Burst]] = {}
        """By machine, key of the model, and whether that has to be loaded; the oldest first."""
        self._by_holder: dict[tuple[str, Question], Advice] = {}
        self._told_at: dict[tuple[str, str], float] = {}
        self._counts, self._loads = Counter[str](), set[tuple[str, str]]()
        self._reviewed: tuple[Fleet | None, Sequence[Advice]] = None, ()
        self._review_at = 0.0

    def order(
        self,
        question: Question,
        order: Order,
        fleet: Fleet,
        now: float,
        *,
        holder: str = "",
        is_remembered: bool = True,
    ) -> Sequence[int]:
        """The places of the candidates, beginning with the one to advise.

        A `holder` who asks the same question again gets the same machine first. The advice counts as a lease
        in later answers if it `is_remembered`.
        """
        others = self._board.others() if self._board else ()
        with self._lock:
            self._review(fleet, others, now)
            places = order.best_first(self._counts, self._loads)
            before = self._by_holder.get((holder, question)) if holder else None
            place = order.place_of(before.machine) if before and is_counting(before, fleet, now) else None
            if place is not None:
                return [place, *(other for other in places if other != place)]
            if not is_remembered:
                return places
            advice = Advice.of(question, order.candidates[places[0]], holder, now)
            self._remember(advice)
            is_news = self._is_news(advice)
        if is_news and self._board:
            self._board.add(advice)
        return places

    def _remember(self, advice: Advice) -> None:
        bursts = self._given.setdefault(
            (advice.machine, model_key(advice.model), advice.loads_s is not None), deque()
        )
        if bursts and 0 <= advice.at - bursts[-1].began_at < REVIEW_S:
            bursts[-1] = _Burst(bursts[-1].began_at, advice, bursts[-1].times + 1)
        else:
            bursts.append(_Burst(advice.at, advice, 1))
        self._count(advice)
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

    def _review(self, fleet: Fleet, others: Sequence[Advice], now: float) -> None:
        """Forget what no longer counts, and count anew."""
        reviewed = fleet, others
        is_same = self._reviewed[0] is fleet and self._reviewed[1] is others
        if is_same and self._review_at - REVIEW_S <= now < self._review_at:
            return
        self._reviewed, self._review_at = reviewed, now + REVIEW_S
        self._told_at = {key: at for key, at in self._told_at.items() if 0 <= now - at < TELL_AGAIN_S}
        self._counts.clear()
        self._loads.clear()
        for kind, bursts in list(self._given.items()):
            while bursts and not is_counting(bursts[0].latest, fleet, now):
                bursts.popleft()
            if bursts:
                self._count(bursts[0].latest, sum(burst.times for burst in bursts))
            else:
                del self._given[kind]
        for advice in still_counting(others, fleet, now):
            self._count(advice)

    def _count(self, advice: Advice, times: int = 1) -> None:
        self._counts[advice.machine] += times
        if advice.loads_s is not None:
            self._loads.add((advice.machine, model_key(advice.model)))
