"""The order of candidates: which of the fit machines is best, given what others are about to use."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Warmth

_NO_COUNTS: Mapping[str, int] = {}
_MANY = 8
"""If more than this share of all candidates must move, sorting all is quicker."""
_Loads = Mapping[str, Set[str]]
_NO_LOADS: _Loads = {}
_Row = tuple[Any, ...]


class _Others(NamedTuple):
    """What others are about to do: how many use each machine, and which machines load the model, or another.

    The model `is_crowded` while more machines load it than are free for it.
    """

    counts: Mapping[str, int]
    loading: Set[str]
    loading_another: Set[str]
    is_crowded: bool


class Order:
    """Orders the candidates for one question, again whenever advice to others changes; for one thread.

    A fleet may have a thousand candidates, and from one answer to the next only a few of them move.
    """

    def __init__(self, candidates: Sequence[Candidate], key: str) -> None:
        """`key` is that of the question's model."""
        self.candidates, self._key = candidates, key
        self._names = [candidate.state.machine.name for candidate in candidates]
        self._place = {name: place for place, name in enumerate(self._names)}
        self._loading, self._free = set[str](), set[str]()
        for name, candidate in zip(self._names, candidates, strict=True):
            load = candidate.load
            if candidate.warmth is Warmth.LOADING:
                self._loading.add(name)
            elif load and load.fits == "free" and not candidate.leases:
                self._free.add(name)
        self._others = _Others({}, self._loading, frozenset(), is_crowded=False)
        self._rows: list[_Row] = []
        """By place."""
        self._sorted: list[_Row] = []
        self._places: list[int] = []
        """Those of the sorted rows."""

    def best_first(self, counts: Mapping[str, int] = _NO_COUNTS, loads: _Loads = _NO_LOADS) -> Sequence[int]:
        """The places of the candidates in the order in which to use them.

        `counts` has how many more leases each machine has than its candidate says. `loads` has, by the key of
        a model, the machines that are about to load it: one that loads another model comes last. While the
        model is being loaded on more machines than are free for it, those come first: the free ones are left
        to other models.
        """
        before, self._others = self._others, self._seen(counts, loads)
        moved = self._moved(before)
        if not self._rows or moved is None or len(moved) * _MANY > len(self._rows):
            self._rows = [self._row(place) for place in range(len(self.candidates))]
            self._sorted = sorted(self._rows)
            self._places = [row[-1] for row in self._sorted]
        else:
            for name in moved:
                self._move(self._place[name])
        return self._places.copy()

    def place_of(self, machine: str) -> int | None:
        """The place of the candidate with that name, or None."""
        return self._place.get(machine)

    def _seen(self, counts: Mapping[str, int], loads: _Loads) -> _Others:
        loading = self._loading | loads.get(self._key, frozenset()) & self._place.keys()
        another = frozenset[str]().union(*(names for key, names in loads.items() if key != self._key))
        is_crowded = len(loading) > len(self._free - counts.keys() - loading)
        return _Others(dict(counts), loading, another, is_crowded)

    def _moved(self, before: _Others) -> set[str] | None:
        """The machines whose rows have changed; None if it may be all of them."""
        now = self._others
        if now.is_crowded != before.is_crowded:
            return None
        moved = {name for name, _ in now.counts.items() ^ before.counts.items()}
        moved |= now.loading_another ^ before.loading_another
        if now.is_crowded:
            moved |= now.loading ^ before.loading
        return moved & self._place.keys()

    def _row(self, place: int) -> _Row:
        """The sort key, least first."""
        name, candidate, others = self._names[place], self.candidates[place], self._others
        rank = 1 if others.is_crowded and name not in others.loading else 0
        if name in others.loading_another:
            rank = 2
        leases = candidate.leases + others.counts.get(name, 0)
        return rank, candidate.preference, leases, candidate.tiebreak, place

    def _move(self, place: int) -> None:
        before, row = bisect_left(self._sorted, self._rows[place]), self._row(place)
        del self._sorted[before], self._places[before]
        now = bisect_left(self._sorted, row)
        self._sorted.insert(now, row)
        self._places.insert(now, place)
        self._rows[place] = row


def best_first(candidates: Sequence[Candidate], key: str) -> list[Candidate]:
    """The candidates for the model with that key, the best first."""
    return [candidates[place] for place in Order(candidates, key).best_first()]
