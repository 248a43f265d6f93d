"""Seconds per status, and outages: what the machine did while somebody looked, and nothing else."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.past.availability import Availability, PolledTime, availability
from machines_server.core.status import Status


def found(
    statuses: Iterable[tuple[float, str]], spans: Iterable[tuple[float, float]], from_s: float, to_s: float
) -> Availability:
    return availability(statuses, PolledTime(spans), from_s, to_s)


def outages(*statuses: tuple[float, str], spans: Iterable[tuple[float, float]] = ((0, 1000),)) -> list[float]:
    """How many outages there were from 100 to 900, and how long the longest was."""
    answer = found(statuses, spans, 100, 900)
    return [answer.outages, answer.longest_outage_s]


def test_a_machine_that_went_away_for_a_minute() -> None:
    answer = found([(0, "online"), (100, "offline"), (160, "online")], [(0, 1000)], 0, 1000)
    assert answer.seconds == {"online": 940, "degraded": 0, "offline": 60, "unknown": 0}
    assert (answer.ratio, answer.outages, answer.longest_outage_s) == (0.94, 1, 60)


def test_the_absence_of_the_server_is_unknown_and_not_the_machines() -> None:
    answer = found([(0, "offline")], [(0, 100), (900, 1000)], 0, 1000)
    assert answer.seconds == {"online": 0, "degraded": 0, "offline": 200, "unknown": 800}
    assert (answer.outages, answer.longest_outage_s) == (1, 200)


def test_before_the_first_status_and_after_the_removal_nothing_is_known() -> None:
    answer = found([(200, "degraded"), (300, "machine_removed")], [(0, 1000)], 0, 1000)
    assert answer.seconds == {"online": 0, "degraded": 100, "offline": 0, "unknown": 900}
    assert answer.ratio == 1
    assert found([], [], 0, 10).ratio is None


def test_the_status_at_the_beginning_of_the_range_comes_from_before_it() -> None:
    assert found([(-500, "online"), (50, "offline")], [(-600, 100)], 0, 100).seconds[Status.ONLINE] == 50


def test_each_time_that_a_machine_goes_offline_is_an_outage() -> None:
    assert outages() == [0, 0]
    assert outages((0, "online")) == [0, 0]
    assert outages((0, "online"), (200, "offline"), (230, "online"), (500, "offline"), (510, "degraded")) == [
        2,
        30,
    ]


def test_an_outage_counts_as_far_as_it_is_in_the_range() -> None:
    assert outages((0, "offline"), (150, "online")) == [1, 50]
    assert outages((0, "online"), (850, "offline")) == [1, 50]
    assert outages((0, "offline"), (100, "online")) == [0, 0]
    assert outages((0, "online"), (900, "offline")) == [0, 0]


def test_an_outage_goes_on_until_the_machine_is_seen_again() -> None:
    assert outages((200, "offline"), (210, "unknown"), (250, "offline"), (300, "online")) == [1, 60]
    assert outages((200, "offline"), (210, "unknown"), (250, "degraded"), (300, "offline")) == [2, 600]
    assert outages((200, "offline"), (210, "machine_removed"), (250, "offline"), (260, "online")) == [2, 10]


def test_an_outage_that_has_just_begun_counts_although_no_time_is_known_of_it() -> None:
    assert outages((0, "online"), (300, "offline"), spans=[(0, 300)]) == [1, 0]
    assert outages((0, "offline"), spans=[(0, 50)]) == [0, 0]


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
    answer = found(sorted(statuses), polled, 0, 100)
    assert sum(answer.seconds.values()) == 100
    assert min(answer.seconds.values()) >= 0
    offline_s = answer.seconds[Status.OFFLINE]
    assert answer.longest_outage_s <= offline_s
    assert (answer.longest_outage_s > 0) == (offline_s > 0)
