"""Several servers with their stores, for tests of how they are started and operated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.servers import Servers
from tests.postgres import Postgres
from tests.store.promql.engines import Engine, victoria_metrics


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for the past of all tests of this process, which share it as sites might."""
    with victoria_metrics(tmp_path_factory.mktemp("engine"), "-search.latencyOffset=1s") as running:
        yield running


@pytest.fixture
def servers(tmp_path: Path, postgres: Postgres, engine: Engine) -> Servers:
    """Servers with a database of their own."""
    return Servers(tmp_path, postgres.new_database(), engine)
