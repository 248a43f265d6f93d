"""Makes folds from an engine's answers, which are checked, since others run the engine."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from machines_server.core.past.metrics import Metric
from machines_server.core.past.rollup import Fold, merge
from machines_server.store.promql.expressions import PART, PART_LETTERS
from machines_server.store.promql.names import stored_per_value
from machines_server.store.values import SeriesKey

Points = list[tuple[int, Fold]]
_Values = Sequence[tuple[float, str]]
_OF_SCRAPES = frozenset({"job", "instance"})
"""Labels of series that were scraped from /metrics, which may have the same names."""


class UnexpectedAnswerError(Exception):
    """The answer does not fit the question."""


class FoundSeries(msgspec.Struct):
    """One series of an answer: labels, and times with values as texts."""

    metric: dict[str, str]
    values: list[tuple[float, str]]


class Buckets(msgspec.Struct, frozen=True):
    """The requested buckets: [from_s, to_s) in steps, each evaluated `offset_s` before its end."""

    from_s: int
    to_s: int
    step_s: int
    offset_s: int = 0

    def start_s(self, evaluated_at: float) -> int:
        """The start of the bucket that was evaluated then; raises UnexpectedAnswerError."""
        end_ms = round(evaluated_at * 1000) + 1
        start_s = end_ms // 1000 + self.offset_s - self.step_s
        if end_ms % 1000 or not self.from_s <= start_s < self.to_s or (start_s - self.from_s) % self.step_s:
            raise UnexpectedAnswerError
        return start_s


def folds_of(
    found: Iterable[FoundSeries], metrics: Sequence[Metric], buckets: Buckets
) -> Mapping[SeriesKey, Points]:
    """The points of each key, oldest first; several series of one key are merged.

    Raises UnexpectedAnswerError. Labels besides those of the key are ignored: a machine may have moved to
    another site.
    """
    parts: dict[tuple[Metric, frozenset[tuple[str, str]]], dict[str, _Values]] = {}
    for one in found:
        if _OF_SCRAPES & one.metric.keys():
            continue
        one.metric.pop("__name__", None)  # VictoriaMetrics keeps the name in a minimum and a maximum
        part = one.metric.pop(PART, "")
        letter, number = part[:1], part[1:]
        if not number.isdecimal() or len(number) > 6 or int(number) >= len(metrics):
            raise UnexpectedAnswerError
        # By metric and not by number: two selectors of one metric may find the same series.
        parts.setdefault((metrics[int(number)], frozenset(one.metric.items())), {})[letter] = one.values
    points: dict[SeriesKey, Points] = {}
    for (metric, labels), by_letter in parts.items():
        label = dict(labels)
        key = SeriesKey(label.get("machine", ""), metric, label.get("gpu", "") if metric.is_gpu else None)
        some = _points(by_letter, stored_per_value(metric), buckets)
        points[key] = _merged(points[key], some) if key in points else some
    return points


def _points(by_letter: Mapping[str, _Values], scale: int, buckets: Buckets) -> Points:
    """The points of one series. A bucket that lacks a part is left out: it has just got its first sample."""
    try:
        counts, *others = [dict(by_letter.get(letter, ())) for letter in PART_LETTERS]
        found = [
            (buckets.start_s(at), _fold(number, [part[at] for part in others], scale))
            for at, number in counts.items()
            if all(at in part for part in others)
        ]
    except (ValueError, OverflowError):  # not a number, or not finite
        raise UnexpectedAnswerError from None
    return sorted(found)


def _fold(number: str, values: Sequence[str], scale: int) -> Fold:
    count = float(number)
    if not 1 <= count == int(count):
        raise UnexpectedAnswerError
    return Fold(int(count), *(round(float(value) * scale) for value in values))


def _merged(first: Points, second: Points) -> Points:
    by_start = dict(first)
    for start_s, fold in second:
        by_start[start_s] = merge((by_start[start_s], fold)) if start_s in by_start else fold
    return sorted(by_start.items())
