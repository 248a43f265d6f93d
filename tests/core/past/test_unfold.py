"""Values that have a given fold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.past.rollup import Fold, fold, merge
from machines_server.core.past.unfold import unfolded


def values_of(known: Fold) -> list[int | None] | None:
    runs = unfolded(known)
    return None if runs is None else [value for value, times in runs for _ in range(times)]


@given(st.lists(st.integers(0, 2**43), max_size=800))
def test_the_values_have_the_fold_that_they_were_made_of(values: list[int]) -> None:
    known = fold(values)
    found = values_of(known)
    assert found is not None
    assert fold(found) == known
    assert len(unfolded(known) or ()) <= 4


@given(st.lists(st.lists(st.integers(-5, 5), max_size=5), max_size=5))
def test_together_they_give_what_the_original_values_gave(parts: list[list[int]]) -> None:
    folds = [fold(part) for part in parts]
    assert fold([value for one in folds for value in values_of(one) or ()]) == merge(folds)


@pytest.mark.parametrize(
    "damaged",
    [
        Fold(1, 5, 4, 6),
        Fold(2, 9, 4, 6),
        Fold(2, 10, 6, 4),
        Fold(3, 30, 4, 6),
        Fold(3, 3, 4, 6),
        Fold(4, 11, 4, 4),
        Fold(-1, 1, 1, 1),
        Fold(3, None, 1, 1),
    ],
)
def test_no_values_have_a_fold_that_contradicts_itself(damaged: Fold) -> None:
    assert unfolded(damaged) is None
