"""Each store in turn, and what was written into it by a sink."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from machines_server.store.api import Leases, Past, Present
from machines_server.store.values import Update
from tests.fakes import wait_until
from tests.store.contract.stores import STORES, Stores
from tests.store.promql.engines import Engine, victoria_metrics

Write = Callable[..., None]


@pytest.fixture(scope="session")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for the measurements of all tests of this process, each of a site of its own."""
    with victoria_metrics(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture(params=STORES, ids=lambda kind: kind.__name__)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    made: Stores = request.param(tmp_path / "store", request)
    with closing(made):
        yield made


def write_all(stores: Stores, *updates: Update) -> None:
    """Write updates as one poller does that then ends."""
    faults: list[str | None] = []
    sink = stores.sink(faults.append)
    for update in updates:
        sink.put(update)
    wait_until(sink.close, 60)
    assert faults == []


@pytest.fixture
def write(stores: Stores) -> Write:
    """Writes updates as one poller; the next call is another poller."""
    return partial(write_all, stores)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def present(stores: Stores, opened: ExitStack) -> Present:
    return opened.enter_context(closing(stores.present()))


@pytest.fixture
def past(stores: Stores, opened: ExitStack) -> Past:
    return opened.enter_context(closing(stores.past()))


@pytest.fixture
def leases(stores: Stores, opened: ExitStack) -> Leases:
    return opened.enter_context(closing(stores.leases()))


@pytest.fixture
def other_leases(stores: Stores, opened: ExitStack) -> Leases:
    """The same leases as another process has them."""
    return opened.enter_context(closing(stores.leases()))
