"""Tiers and rollups: how samples are folded, merged and asked for, exactly."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

RAW, MINUTE, TEN_MINUTES, HOUR = "raw", "1m", "10m", "1h"
TIER_STEPS_S = {MINUTE: 60, TEN_MINUTES: 600, HOUR: 3600}
TIERS = (RAW, *TIER_STEPS_S)
"""Each is made from the one before it."""
MAX_AUTO_POINTS = 500
MAX_POINTS = 11_000
NICE_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    7 * 86_400, 30 * 86_400, 365 * 86_400,
)  # fmt: skip
MAX_STEP_S = NICE_STEPS_S[-1]


class Fold(NamedTuple):
    """What remains of the values of one metric in one bucket; the last three are None when n is 0.

    Values are integers (thousandths, or bytes), so that merging gives the same in any order.
    """

    n: int = 0
    sum: int | None = None
    min: int | None = None
    max: int | None = None


def fold(values: Iterable[int | None]) -> Fold:
    """Fold values; an unknown one (None) does not count."""
    known = [value for value in values if value is not None]
    return Fold(len(known), sum(known), min(known), max(known)) if known else Fold()


def merge(parts: Iterable[Fold]) -> Fold:
    """The fold of all the values that were folded into `parts`."""
    parts = [part for part in parts if part.n]
    if not parts:
        return Fold()
    return Fold(
        n=sum(part.n for part in parts),
        sum=sum(part.sum or 0 for part in parts),
        min=min(part.min for part in parts if part.min is not None),
        max=max(part.max for part in parts if part.max is not None),
    )


def auto_step_s(span_s: float, least_s: float) -> int:
    """The smallest usual step of at least `least_s` that cuts `span_s` into at most 500 points."""
    # One point fewer, because the ends of the span may cut two buckets.
    wanted = max(span_s / (MAX_AUTO_POINTS - 1), least_s)
    return next((step for step in NICE_STEPS_S if step >= wanted), NICE_STEPS_S[-1])


def coarsest_tier(step_s: int) -> str:
    """The tier with the fewest rows whose buckets fit into those that were asked for."""
    return next((tier for tier in reversed(TIERS[1:]) if step_s % TIER_STEPS_S[tier] == 0), RAW)


def segments(from_s: int, to_s: int, coarsest: str, due: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Which tier answers which part of [from_s, to_s): the coarsest that is made, and no moment twice.

    `due` says from when on buckets of a tier are still to be made; coarser ones that hold them are so too.
    Both ends of the range are ends of buckets of `coarsest`.
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
