"""What many tests need."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes import FakeFleet
from tests.running import RunningServer

# How long an example takes says nothing of whether it holds.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def fakes() -> Iterator[FakeFleet]:
    """Fake hosts that end with the test."""
    with FakeFleet() as fleet:
        yield fleet


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A running server that polls every second and knows no machine yet."""
    with RunningServer(tmp_path) as running:
        yield running
