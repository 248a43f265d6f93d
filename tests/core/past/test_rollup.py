"""Folding and merging are exact, and no moment of a range is answered twice."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.past.rollup import (
    HOUR,
    MAX_AUTO_POINTS,
    MINUTE,
    RAW,
    TEN_MINUTES,
    TIER_STEPS_S,
    TIERS,
    Fold,
    auto_step_s,
    coarsest_tier,
    fold,
    merge,
    segments,
)

VALUES = st.lists(st.none() | st.integers(0, 2**50), max_size=50)


@given(VALUES, st.data())
def test_any_split_of_any_values_merges_to_the_same(values: list[int | None], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=6)))
    parts = [values[a:b] for a, b in pairwise([0, *cuts, len(values)])]
    assert merge(fold(part) for part in parts) == fold(values)
    assert merge([merge(fold(part) for part in parts[:2]), *(fold(part) for part in parts[2:])]) == fold(
        values
    )


def test_an_unknown_value_counts_for_nothing_and_zero_counts() -> None:
    assert fold([None, 0, None]) == Fold(1, 0, 0, 0)
    assert fold([None]) == Fold(0, None, None, None)
    assert merge([Fold(), fold([3])]) == fold([3])


@given(st.integers(1, 10**9), st.integers(1, 3600))
def test_an_automatic_step_gives_at_most_five_hundred_points(span_s: int, least_s: int) -> None:
    step = auto_step_s(span_s, least_s)
    assert step >= least_s
    assert span_s // step + 2 <= MAX_AUTO_POINTS + 1


def test_the_coarsest_tier_is_the_one_whose_buckets_fit() -> None:
    steps = (1, 59, 60, 90, 120, 600, 900, 1800, 2040, 3600, 86_400)
    assert [coarsest_tier(step) for step in steps] == [
        RAW, RAW, MINUTE, RAW, MINUTE, TEN_MINUTES, MINUTE, TEN_MINUTES, MINUTE, HOUR, HOUR,
    ]  # fmt: skip


@given(st.integers(0, 100), st.integers(1, 100), st.sampled_from(TIERS), st.data())
def test_segments_cover_a_range_once_and_use_the_coarsest_that_is_made(
    first_h: int, hours: int, coarsest: str, data: st.DataObject
) -> None:
    start, end = first_h * 3600, (first_h + hours) * 3600
    due = {
        tier: data.draw(st.integers(start // step, end // step + 1)) * step
        for tier, step in TIER_STEPS_S.items()
        if data.draw(st.booleans())
    }

    def is_made(tier: str, until: int) -> bool:
        """Whether all buckets of the tier before `until` are, and all that they are made from."""
        finer = TIERS[1 : TIERS.index(tier) + 1]
        return all(
            until <= due[one] // TIER_STEPS_S[tier] * TIER_STEPS_S[tier] for one in finer if one in due
        )

    parts = segments(start, end, coarsest, due)
    assert parts[0][1] == start
    assert parts[-1][2] == end
    assert all(before[2] == after[1] for before, after in pairwise(parts))
    for tier, low, high in parts:
        assert low < high
        if tier != RAW:
            assert low % TIER_STEPS_S[tier] == high % TIER_STEPS_S[tier] == 0
        assert is_made(tier, high)
        for coarser in TIERS[TIERS.index(tier) + 1 : TIERS.index(coarsest) + 1]:
            assert not is_made(coarser, low + TIER_STEPS_S[coarser])
