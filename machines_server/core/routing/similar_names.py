"""Suggests known models for a name that no machine has."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import islice, pairwise
from typing import NamedTuple

from machines_server.core.model_names import model_key

MAX_SUGGESTIONS = 5
MAX_NAMES = 10_000
"""How many names are compared at most, which takes about 30 ms."""
MIN_SIMILARITY = 0.6
"""How similar (0 to 1) names with different models must be."""
_MAX_CHARACTERS, _MAX_PAIRS, _MAX_COMPARED = 100, 20, 50
_PUNCTUATION = str.maketrans("", "", "-_.: ")


class _Parts(NamedTuple):
    """The part of a name after its last slash, the model in it, and its letters and digits."""

    last: str
    model: str
    letters: str


def similar_names(asked: str, known: Iterable[str]) -> tuple[str, ...]:
    """The known names that are most similar to an unknown one, the closest first.

    Names that differ only before the last slash come first, then those with another tag, then those spelled
    similarly. Equally similar names keep the order of `known`.
    """
    wanted, asked_key = _parts(asked), model_key(asked)
    pairs = list(dict.fromkeys("".join(pair) for pair in pairwise(wanted.letters)))[:_MAX_PAIRS]
    likely = nlargest(_MAX_COMPARED, _by_shared_pairs(known, wanted, pairs))
    similar = []
    for same_last, same_model, _, position, name in likely:
        letters = _parts(name).letters
        similarity = _similarity(wanted.letters, letters)
        if same_last or same_model or similarity >= MIN_SIMILARITY:
            similar.append((same_last, same_model, similarity, _similarity(asked, name), position, name))
    names: dict[str, str] = {}
    for *_, name in sorted(similar, reverse=True):
        names.setdefault(model_key(name), name)
    names.pop(asked_key, None)
    return tuple(names.values())[:MAX_SUGGESTIONS]


def _similarity(one: str, other: str) -> float:
    """How similar the ends of two texts are, from 0 to 1."""
    one, other = (text[-_MAX_CHARACTERS:].lower() for text in (one, other))
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _by_shared_pairs(
    known: Iterable[str], wanted: _Parts, pairs: list[str]
) -> Iterable[tuple[bool, bool, int, int, str]]:
    """Each name with sort keys for its similarity to the wanted one and its negative position.

    SequenceMatcher is slow, so shared pairs of letters select the names to compare.
    """
    for position, name in enumerate(islice(known, MAX_NAMES)):
        last, model, letters = _parts(name)
        shared = 0
        for pair in pairs:
            if pair in letters:
                shared += 1
        same_model = bool(model) and model == wanted.model
        yield same_model and last == wanted.last, same_model, shared, -position, name


def _parts(name: str) -> _Parts:
    last = name.lower().rpartition("/")[2][:_MAX_CHARACTERS].removesuffix(":latest")
    return _Parts(last, last.partition(":")[0], last.translate(_PUNCTUATION))
