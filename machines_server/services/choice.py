"""The choice of the machine of one lease."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from machines_server.core.routing.answer import Candidate, Ranking
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import evaluated_again
from machines_server.store.values import LeaseSnapshot


class Choice:
    """Chooses a machine for a question, and remembers what it knew; implements Chooser, for one thread."""

    def __init__(self, question: Question, fleet: Fleet, rank: Callable[[LeaseSnapshot], Ranking]) -> None:
        """`rank` ranks the machines of the fleet for the question, and raises if none is fit."""
        self._question, self._fleet, self._rank = question, fleet, rank
        self.known: LeaseSnapshot | None = None
        """The leases that the last ranking took into account."""
        self.ranking: Ranking | None = None
        """The machines, beginning with that of the lease."""
        self._on_host: Sequence[Lease] = ()

    def candidates(self, known: LeaseSnapshot) -> Sequence[Candidate]:
        """The fit machines given all leases, the best first."""
        self.known, self._on_host = known, known.leases
        self.ranking = self._rank(known)
        return self.ranking.candidates

    def again(self, candidate: Candidate, on_host: LeaseSnapshot) -> Candidate | None:
        """One of them given the leases on its host; None if it is no longer fit."""
        leases = [*on_host.leases, *on_host.released]
        result = evaluated_again(
            candidate, self._question, self._fleet, leases, on_host.load_times, time.time()
        )
        if self.ranking is None or not isinstance(result, Candidate):
            return None
        others = [one for one in self.ranking.candidates if one.state is not candidate.state]
        self.ranking, self._on_host = replace(self.ranking, candidates=[result, *others]), on_host.leases
        return result

    def leases_with(self, lease: Lease) -> Sequence[Lease]:
        """The leases in force when that lease was granted, and itself; none if nothing was chosen."""
        if self.known is None:
            return ()
        return [*(one for one in self._on_host if one.id != lease.id), lease]
