"""What several tests of polling need."""

from collections.abc import Iterator

import pytest

from machines_server.poll.fetch import Fetcher
from tests.poll.fetching import TIMEOUT_S


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    fetcher = Fetcher(TIMEOUT_S)
    yield fetcher
    fetcher.close()
