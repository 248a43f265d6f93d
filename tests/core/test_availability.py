"""Seconds per status: what the machine did while somebody looked, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.availability import availability, ratio


def test_a_machine_that_went_away_for_a_minute() -> None:
    seconds = availability([(0, "online"), (100, "offline"), (160, "online")], [(0, 1000)], 0, 1000)
    assert seconds == {"online": 940, "degraded": 0, "offline": 60, "unknown": 0}
    assert ratio(seconds) == 0.94


def test_the_absence_of_the_server_is_unknown_and_not_the_machines() -> None:
    seconds = availability([(0, "offline")], [(0, 100), (900, 1000)], 0, 1000)
    assert seconds == {"online": 0, "degraded": 0, "offline": 200, "unknown": 800}


def test_before_the_first_status_and_after_the_removal_nothing_is_known() -> None:
    seconds = availability([(200, "degraded"), (300, "machine_removed")], [(0, 1000)], 0, 1000)
    assert seconds == {"online": 0, "degraded": 100, "offline": 0, "unknown": 900}
    assert ratio(seconds) == 1
    assert ratio(availability([], [], 0, 10)) is None


def test_the_status_at_the_beginning_of_the_range_comes_from_before_it() -> None:
    assert availability([(-500, "online"), (50, "offline")], [(-600, 100)], 0, 100)["online"] == 50


@given(
    st.lists(st.tuples(st.integers(-50, 150), st.sampled_from(["online", "offline", "unknown"]))),
    st.lists(st.tuples(st.integers(-50, 150), st.integers(0, 20)), max_size=5),
)
def test_the_seconds_always_add_up_to_the_range(
    statuses: list[tuple[int, str]], spans: list[tuple[int, int]]
) -> None:
    polled, end = [], -100
    for start, length in sorted(spans):
        if start > end:
            end = start + length
            polled.append((float(start), float(end)))
    seconds = availability(sorted(statuses), polled, 0, 100)
    assert sum(seconds.values()) == 100
    assert min(seconds.values()) >= 0
