"""What many tests need."""

import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.fakes import FakeFleet
from tests.running import RunningServer
from tests.tools import summary
from tests.turns import Turns

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is where a shell runs the tests in the background, and then in all processes that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes that xdist starts know nothing of `python -W error`.
warnings.simplefilter("error")

PAGES, ALONE = "tests/page/", "alone"
TURN = pytest.StashKey[Turns]()

LONGEST = (
    PAGES,
    "tests/test_end_to_end.py",
    "tests/test_who_polls.py",
    "tests/test_client_bounds.py",
    "tests/test_leases.py",
    "tests/inventory/test_nasty.py",
    "tests/cli/",
    "tests/test_client.py",
    "tests/test_locks.py",
    "tests/test_environment.py",
    "tests/test_damaged_server.py",
    "tests/sidecar/",
    "tests/process/",
    "tests/world/",
    "tests/web/",
    "tests/recipes/",
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


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """The tests of a module run in one process, and so do all that look at pages, and all that are alone."""

    def _split_scope(self, nodeid: str) -> str:
        """What runs in one process, of which `nodeid` is a part."""
        if nodeid.endswith(f"@{ALONE}"):  # xdist has appended the name of the test's group
            return ALONE
        module = nodeid.partition("::")[0]
        return PAGES if module.startswith(PAGES) else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    """Have xdist divide the tests so, in the order in which they were collected."""
    config.option.loadscopereorder = False
    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that are alone, one after the other, and then with what takes longest."""
    for item in items:
        if _is_alone(item):
            item.add_marker(pytest.mark.xdist_group(ALONE))
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    if _is_alone(item):
        return -1
    places = (place for place, start in enumerate(LONGEST) if item.nodeid.startswith(start))
    return next(places, len(LONGEST))


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Let the tests that are marked so be alone among those of other processes, all in one turn."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    shared = Path(item.config.getoption("basetemp")).parent  # each process of xdist has a folder in it
    turn = item.config.stash.setdefault(TURN, Turns(shared))
    turn.begin(alone=_is_alone(item))
    try:
        return (yield)
    finally:
        if not _is_alone(item) or nextitem is None or not _is_alone(nextitem):
            turn.end()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the last lines say which programs were missing."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        for line in summary([str(report.longrepr) for report in reporter.stats.get("skipped", ())]):
            reporter.write_line(line)
