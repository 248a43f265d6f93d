"""How long each target is fuzzed: `MACHINES_TEST_FUZZ_S` seconds, by default 20."""

import os
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

ROUND = settings(
    max_examples=50,
    deadline=None,
    database=None,
    derandomize=False,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
"""One round of examples; the next one makes up others."""
Fuzz = Callable[[Callable[[], None]], None]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Everything here is fuzzing, and runs by `make fuzz` alone."""
    item.add_marker(pytest.mark.fuzz)


@pytest.fixture
def fuzz() -> Fuzz:
    """Runs a test that hypothesis gives examples, round after round, until its time is over."""
    seconds = float(os.environ.get("MACHINES_TEST_FUZZ_S", "20"))

    def rounds(test: Callable[[], None]) -> None:
        one_round, count = ROUND(test), 0
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            one_round()
            count += 1
        print(f"{test.__name__}: {count} rounds of {ROUND.max_examples} examples in {seconds:g} s")  # noqa: T201  seen with -s

    return rounds
