"""Charts of one line of text."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.,-=+*#"


class Sparkline(NamedTuple):
    """A chart, and the lowest and highest value that it shows."""

    chart: str
    low: float
    high: float


class WeightedPoint(NamedTuple):
    """The average of `values` values from the time `at` on."""

    at: float
    average: float
    values: int


def sparkline(
    points: Sequence[WeightedPoint],
    first: float,
    last: float,
    width: int,
    bars: str = BARS,
    printed: Callable[[float], str] = str,
) -> Sparkline:
    """A bar for the average of each of `width` parts of the time, and a blank for a part without values.

    There must be at least one point. The lowest bar stands for `low`, the highest for `high`,
    and all are the lowest if those two are `printed` alike.
    """
    sums, counts = [0.0] * width, [0] * width
    for point in points:
        place = min(width - 1, max(0, int((point.at - first) / (last - first) * width)))
        sums[place] += point.average * point.values
        counts[place] += point.values
    averages = [total / count if count else None for total, count in zip(sums, counts, strict=True)]
    known = [average for average in averages if average is not None]
    low, high = min(known), max(known)
    if printed(low) == printed(high):
        high = low
    return Sparkline("".join(_bar(average, low, high, bars) for average in averages), low, high)


def _bar(average: float | None, low: float, high: float, bars: str) -> str:
    if average is None:
        return " "
    share = (average - low) / (high - low) if high > low else 0.0
    return bars[min(len(bars) - 1, int(share * len(bars)))]
