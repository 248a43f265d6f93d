"""What several tests of polling need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from machines_server.poll.fetch import Fetcher
from tests.poll.fetching import TIMEOUT_S
from tests.poll.world import World


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    fetcher = Fetcher(TIMEOUT_S)
    yield fetcher
    fetcher.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
