"""How samples are aggregated into tiers, and which tier answers which part of a range."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

RAW, MINUTE, TEN_MINUTES, HOUR = "raw", "1m", "10m", "1h"
TIER_STEPS_S = {MINUTE: 60, TEN_MINUTES: 600, HOUR: 3600}
TIERS = (RAW, *TIER_STEPS_S)
"""Each tier is aggregated from the previous one."""
MAX_AUTO_POINTS = 500
"""The most points of a series when the step is chosen automatically."""
MAX_POINTS = 11_000
"""The most points of one series."""
MAX_POINTS_IN_ALL = 60_000
"""The most points of all series of an answer, enough for 500 of every metric of a host with 15 GPUs."""
NICE_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    7 * 86_400, 30 * 86_400, 365 * 86_400,
)  # fmt: skip
MAX_STEP_S = NICE_STEPS_S[-1]


class Fold(NamedTuple):
    """The aggregate of the values of one metric in one bucket; the last three are None if n is 0.

    Values are integers (thousandths, or bytes), so that merging is exact in any order.
    """

    n: int = 0
    sum: int | None = None
    min: int | None = None
    max: int | None = None


def fold(values: Iterable[int | None]) -> Fold:
    """Aggregate the values that are known (not None)."""
    known = [value for value in values if value is not None]
    return Fold(len(known), sum(known), min(known), max(known)) if known else Fold()


def merge(parts: Iterable[Fold]) -> Fold:
    """The aggregate of all the values that were aggregated into `parts`."""
    parts = [part for part in parts if part.n]
    if not parts:
        return Fold()
    return Fold(
        n=sum(part.n for part in parts),
        sum=sum(part.sum or 0 for part in parts),
        min=min(part.min for part in parts if part.min is not None),
        max=max(part.max for part in parts if part.max is not None),
    )


def auto_step_s(span_s: float, least_s: float, points: int = MAX_AUTO_POINTS) -> int:
    """The smallest usual step of at least `least_s` that divides `span_s` into at most `points` points."""
    # One point fewer, because the ends of the span may cut two buckets.
    wanted = max(span_s / max(points - 1, 1), least_s)
    return next((step for step in NICE_STEPS_S if step >= wanted), NICE_STEPS_S[-1])


def coarsest_tier(step_s: int) -> str:
    """The coarsest tier whose buckets divide buckets of `step_s`."""
    return next((tier for tier in reversed(TIERS[1:]) if step_s % TIER_STEPS_S[tier] == 0), RAW)


def segments(from_s: int, to_s: int, coarsest: str, due: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Which tier answers which part of [from_s, to_s): the coarsest that is complete there.

    `due` has the time from which the buckets of a tier have yet to be aggregated, and with them the coarser
    buckets around them. The range must begin and end with buckets of `coarsest`.
    """
    ends = {RAW: to_s}
    end = to_s
    for tier, step_s in TIER_STEPS_S.items():
        ends[tier] = end = min(end, due.get(tier, end)) // step_s * step_s
    parts, at = [], from_s
    for tier in reversed(TIERS[: TIERS.index(coarsest) + 1]):
        if ends[tier] > at:
            parts.append((tier, at, ends[tier]))
            at = ends[tier]
    return parts
