"""The order of candidates: which of the fit machines is best, given what others are about to use."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Warmth

_NO_COUNTS: Mapping[str, int] = {}
_Loads = Set[tuple[str, str]]


class Order:
    """Orders the candidates for one question, as often as what others were advised changes.

    All sort keys are made once, since a fleet may have a thousand candidates.
    """

    def __init__(self, candidates: Sequence[Candidate], key: str) -> None:
        """`key` is that of the question's model."""
        self.candidates, self._key = candidates, key
        self._rows: list[tuple[Any, ...]] = []
        self._place: dict[str, int] = {}
        self._loading, self._free = set[str](), set[str]()
        for place, candidate in enumerate(candidates):
            name, load = candidate.state.machine.name, candidate.load
            self._place[name] = place
            self._rows.append((0, candidate.preference, candidate.leases, candidate.tiebreak, place))
            if candidate.warmth is Warmth.LOADING:
                self._loading.add(name)
            elif load and load.fits == "free" and not candidate.leases:
                self._free.add(name)

    def best_first(
        self, counts: Mapping[str, int] = _NO_COUNTS, loads: _Loads = frozenset()
    ) -> Sequence[int]:
        """The places of the candidates in the order in which to use them.

        Each machine has that many more leases than its candidate says, by `counts`. `loads` has the machines
        that are about to load a model, and its key: one that loads another model comes last. While the model
        is being loaded on more machines than are free for it, those come first: the free ones are left to
        other models.
        """
        rows = self._rows.copy()
        for name, count in counts.items():
            if (place := self._place.get(name)) is not None:
                _, preference, leases, tiebreak, _ = rows[place]
                rows[place] = 0, preference, leases + count, tiebreak, place
        loading = self._loading | {name for name, key in loads if key == self._key and name in self._place}
        if len(loading) > len(self._free - counts.keys() - loading):
            rows = [row if self._name(row[-1]) in loading else (1, *row[1:]) for row in rows]
        for name, key in loads:
            if key != self._key and (place := self._place.get(name)) is not None:
                rows[place] = (2, *rows[place][1:])
        rows.sort()
        return [row[-1] for row in rows]

    def place_of(self, machine: str) -> int | None:
        """The place of the candidate with that name, or None."""
        return self._place.get(machine)

    def _name(self, place: int) -> str:
        return self.candidates[place].state.machine.name


def best_first(candidates: Sequence[Candidate], key: str) -> list[Candidate]:
    """The candidates for the model with that key, the best first."""
    return [candidates[place] for place in Order(candidates, key).best_first()]
