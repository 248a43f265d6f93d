"""What many tests need."""

import gc
import signal
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.fakes import FakeFleet
from tests.postgres import Postgres, folder_of_postgres
from tests.running import SHARED, RunningServer
from tests.store.promql.engines import victoria_metrics
from tests.tools import summary

# A shell that runs the tests in the background has them ignore SIGINT, and nohup SIGHUP. Without a handler,
# all processes that they start would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# Processes that xdist starts know nothing of `python -W error`.
warnings.simplefilter("error")

PAGES, SECOND_HALF = "tests/page/", "tests/page/test_fleet.py"
"""The tests that look at pages, and the module with which the second half of them begins."""

LONGEST = (
    PAGES,
    "tests/cluster/test_copy.py",
    "tests/cluster/",
    "tests/store/contract/",
    "tests/store/postgres/",
    "tests/store/promql/",
    "tests/cli/test_terminals.py",
    "tests/test_end_to_end.py",
    "tests/client/test_client.py",
    "tests/openapi/test_schemathesis.py",
    "tests/mcp/",
    "tests/web/test_waiting.py",
    "tests/test_leases.py",
    "tests/test_who_polls.py",
    "tests/world/",
    "tests/test_locks.py",
    "tests/cli/",
    "tests/web/test_connections.py",
    "tests/recipes/",
    "tests/sidecar/test_gpu",
    "tests/process/",
    "tests/test_environment.py",
    "tests/client/",
    "tests/replay/",
    "tests/test_",
    "tests/inventory/",
    "tests/sidecar/",
    "tests/poll/",
    "tests/store/sqlite/",
)
"""What takes longest, and so begins first: the end of a run would wait for whatever begins last."""

# How long an example takes, or making one up, says nothing of whether it holds.
settings.register_profile("no hurry", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no hurry")


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of this process, each of which makes its own database."""
    with folder_of_postgres() as folder, Postgres(folder / "data") as running:
        yield running


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of the API run over the databases of several servers as well."""
    parser.addoption("--cluster", action="store_true", help="servers use PostgreSQL and VictoriaMetrics")


@pytest.fixture(scope="session", autouse=True)
def shared_databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """With --cluster, a PostgreSQL and an engine for the past for all servers of this process."""
    if not request.config.getoption("--cluster"):
        yield
        return
    running: Postgres = request.getfixturevalue("postgres")
    with victoria_metrics(tmp_path_factory.mktemp("engine")) as engine:

        def settings() -> Mapping[str, str]:
            url = running.new_database()
            return {
                "MACHINES_DATABASE_URL": url,
                "MACHINES_REMOTE_WRITE_URL": engine.write_url,
                "MACHINES_QUERY_URL": engine.url,
                "MACHINES_SITE": url.rpartition("/")[2],
            }

        SHARED.append(settings)
        yield
        SHARED.clear()


@pytest.fixture(scope="module")
def server_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The server behind `shared_server`."""
    with RunningServer(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture
def shared_server(server_of_module: RunningServer) -> Iterator[RunningServer]:
    """As `server`, but other tests of the module have used it before: it has a past."""
    yield server_of_module
    server_of_module.forget_all()


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """The tests of a module run in one process, and so does each half of those that look at pages."""

    def _split_scope(self, nodeid: str) -> str:
        """What runs in one process, of which `nodeid` is a part."""
        module = nodeid.partition("::")[0]
        if module.startswith(PAGES):
            return f"{PAGES} {module >= SECOND_HALF}"
        return module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    """Have xdist divide the tests so, in the order in which they were collected."""
    config.option.loadscopereorder = False
    return ByModule(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector from what collection makes, which stays: it looked through that often."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    places = (place for place, start in enumerate(LONGEST) if item.nodeid.startswith(start))
    return next(places, len(LONGEST))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the last lines say which programs were missing."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        for line in summary([str(report.longrepr) for report in reporter.stats.get("skipped", ())]):
            reporter.write_line(line)
