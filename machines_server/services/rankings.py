"""The rankings of machines for the latest questions, which makes repeating these cheap."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from machines_server.contract.routing import RouteJson
from machines_server.core.routing.answer import Ranking
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import rank
from machines_server.store.values import LeaseSnapshot

MAX_RANKINGS = 12
"""The questions whose last ranking is kept; each may hold the state of the whole fleet at an earlier time."""


class _Kept(NamedTuple):
    ranking: Ranking
    json: RouteJson | None = None


class Rankings:
    """Ranks machines, evaluating only those for which something has changed; thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def rank(
        self,
        question: Question,
        fleet: Fleet,
        snapshot: LeaseSnapshot,
        pause: Callable[[], object] = bool,
    ) -> Ranking:
        """Rank the machines for a question now, given all leases, including those just released.

        `pause` is called after each machine that is evaluated.
        """
        leases = [*snapshot.leases, *snapshot.released]
        before, now = self._before(question), time.time()
        known = before.ranking if before else None
        ranking = rank(question, fleet, leases, snapshot.load_times, now, known, pause)
        self._keep(question, _Kept(ranking, before.json if before else None))
        return ranking

    def json(self, question: Question, ranking: Ranking) -> RouteJson:
        """The JSON of a ranking for that question, with at least one candidate."""
        before = self._before(question)
        json = RouteJson(ranking, before.json if before else None)
        self._keep(question, _Kept(ranking, json))
        return json

    def _before(self, question: Question) -> _Kept | None:
        with self._lock:
            return self._kept.get(question)

    def _keep(self, question: Question, kept: _Kept) -> None:
        with self._lock:
            self._kept[question] = kept
            self._kept.move_to_end(question)
            if len(self._kept) > MAX_RANKINGS:
                self._kept.popitem(last=False)
