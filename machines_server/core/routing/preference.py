"""The order of candidates: which of the fit machines is best, given what others are about to use."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Warmth

_NO_COUNTS: Mapping[str, int] = {}
_MANY = 8
"""If more than this share of all candidates must move, sorting all is quicker."""
_Loads = Mapping[str, Set[str]]
_NO_LOADS: _Loads = {}
_Row = tuple[Any, ...]


class Order:
    """Orders the candidates for one question, again whenever advice to others changes; for one thread.

    A fleet may have a thousand candidates, and from one answer to the next only a few of them move.
    """

    def __init__(self, candidates: Sequence[Candidate], key: str) -> None:
        """`key` is that of the question's model."""
        self.candidates, self._key = candidates, key
        self._names = [candidate.state.machine.name for candidate in candidates]
        self._place = {name: place for place, name in enumerate(self._names)}
        self._load_now, self._are_free = set[str](), set[str]()
        for name, candidate in zip(self._names, candidates, strict=True):
            load = candidate.load
            if candidate.warmth is Warmth.LOADING:
                self._load_now.add(name)
            elif load and load.fits == "free" and not candidate.leases:
                self._are_free.add(name)
        self._loading, self._loading_another, self._free = set[str](), set[str](), set[str]()
        """The candidates that load the model, or another one, and those that are still free for it."""
        self._is_crowded = False
        self._rows: list[_Row] = []
        """By place."""
        self._sorted: list[_Row] = []
        self._places: list[int] = []
        """Those of the sorted rows."""

    def best_first(
        self,
        counts: Mapping[str, int] = _NO_COUNTS,
        loads: _Loads = _NO_LOADS,
        changed: Collection[str] | None = None,
    ) -> Sequence[int]:
        """The places of the candidates in the order in which to use them.

        `counts` has how many more leases each machine has than its candidate says. `loads` has, by the key of
        a model, the machines that are about to load it: one that loads another model comes last. While the
        model is being loaded on more machines than are free for it, those come first: the free ones are left
        to other models. `changed` are the machines for which either differs from the last call; None if it is
        not known.
        """
        names = {*self._names} if changed is None or not self._rows else self._place.keys() & changed
        for name in names:
            self._note(name, counts, loads)
        was_crowded, self._is_crowded = self._is_crowded, len(self._loading) > len(self._free)
        if self._is_crowded != was_crowded or len(names) * _MANY > len(self._names) or not self._rows:
            self._rows = [self._row(place, counts) for place in range(len(self._names))]
            self._sorted = sorted(self._rows)
            self._places = [row[-1] for row in self._sorted]
        else:
            for name in names:
                self._move(self._place[name], counts)
        return self._places.copy()

    def place_of(self, machine: str) -> int | None:
        """The place of the candidate with that name, or None."""
        return self._place.get(machine)

    def _note(self, name: str, counts: Mapping[str, int], loads: _Loads) -> None:
        """Note what others are about to do with a machine."""
        is_loading = name in self._load_now or name in loads.get(self._key, ())
        is_free = name in self._are_free and name not in counts and not is_loading
        loads_another = any(name in names for key, names in loads.items() if key != self._key)
        for names, is_among in (
            (self._loading, is_loading),
            (self._free, is_free),
            (self._loading_another, loads_another),
        ):
            (names.add if is_among else names.discard)(name)

    def _row(self, place: int, counts: Mapping[str, int]) -> _Row:
        """The sort key, least first."""
        name, candidate = self._names[place], self.candidates[place]
        rank = 1 if self._is_crowded and name not in self._loading else 0
        if name in self._loading_another:
            rank = 2
        leases = candidate.leases + counts.get(name, 0)
        return rank, candidate.preference, leases, candidate.tiebreak, place

    def _move(self, place: int, counts: Mapping[str, int]) -> None:
        before, row = bisect_left(self._sorted, self._rows[place]), self._row(place, counts)
        del self._sorted[before], self._places[before]
        now = bisect_left(self._sorted, row)
        self._sorted.insert(now, row)
        self._places.insert(now, place)
        self._rows[place] = row


def best_first(candidates: Sequence[Candidate], key: str) -> list[Candidate]:
    """The candidates for the model with that key, the best first."""
    return [candidates[place] for place in Order(candidates, key).best_first()]
