"""Paging through events while others are written: none is lost or repeated."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from machines_server.core.machine import Registry
from machines_server.store.api import Past
from machines_server.store.values import StoredEvent
from tests.store.contract.conftest import write_all
from tests.store.contract.stores import STORES, Stores
from tests.store.polls import machine

START = 1_700_000_000
Declared = tuple[int, frozenset[str]]
"""When the machine files were read, and the machines in them."""
DECLARED = st.tuples(st.integers(0, 2), st.frozensets(st.sampled_from("abcd")))
"""Many events have the same time, and some are written after later ones."""
MACHINES = st.sampled_from([(), ("a",), ("b", "c")])
TYPES = st.sampled_from([(), ("machine_added",), ("machine_added", "machine_removed")])

every_store = pytest.mark.parametrize("kind", STORES, ids=lambda kind: kind.__name__)
few_examples = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Story(NamedTuple):
    """What is written before and while a reader turns pages of `limit` events, of some machines and types."""

    first: list[Declared]
    later: list[Declared]
    limit: int
    machines: Sequence[str]
    types: Sequence[str]


STORIES = st.builds(
    Story,
    first=st.lists(DECLARED, min_size=1, max_size=6),
    later=st.lists(DECLARED, max_size=5),
    limit=st.integers(1, 4),
    machines=MACHINES,
    types=TYPES,
)


class Reader:
    """Reads pages of some events, and writes others between them."""

    def __init__(self, stores: Stores, past: Past, story: Story) -> None:
        self._stores, self._past, self._limit = stores, past, story.limit
        self._machines, self._types = story.machines, story.types
        self.write(*story.first)

    def write(self, *declared: Declared) -> None:
        write_all(
            self._stores,
            *(Registry(tuple(map(machine, sorted(names))), loaded_at=START + at) for at, names in declared),
        )

    def all(self) -> list[StoredEvent]:
        """All events that are there, newest first."""
        page = self._past.events(self._machines, self._types, 0, 1e11, 1000)
        assert not page.is_truncated
        assert list(page.events) == sorted(page.events, key=lambda one: (one.at, one.id), reverse=True)
        return list(page.events)

    def older(self, later: Iterator[Declared]) -> list[StoredEvent]:
        """All pages from the newest event on."""
        found: list[StoredEvent] = []
        is_truncated = True
        while is_truncated:
            before = found[-1].id if found else None
            page, is_truncated, _ = self._past.events(
                self._machines, self._types, 0, 1e11, self._limit, before=before
            )
            assert len(page) == self._limit if is_truncated else len(page) <= self._limit
            found += page
            self.write(*take(later))
        return found

    def newer(self, later: Iterator[Declared]) -> list[StoredEvent]:
        """All pages of what is written after the first event, and while they are read."""
        found: list[StoredEvent] = []
        last, is_written = 0, False
        while True:
            page, is_truncated, _ = self._past.events(
                self._machines, self._types, 0, 1e11, self._limit, after=last
            )
            found += sorted(page, key=lambda one: one.id)
            last = max([last, *(one.id for one in page)])
            if is_written and not is_truncated:
                return found
            new = take(later)
            self.write(*new)
            is_written = not new


def take(declared: Iterator[Declared]) -> list[Declared]:
    """The next one, if there is one."""
    return [one for one, _ in zip(declared, range(1), strict=False)]


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: tmp_path_factory.mktemp("store") / "store"


@every_store
@few_examples
@given(story=STORIES)
def test_pages_of_older_events_have_each_once(
    empty: Callable[[], Path],
    kind: Callable[[Path, pytest.FixtureRequest], Stores],
    story: Story,
    request: pytest.FixtureRequest,
) -> None:
    with closing(kind(empty(), request)) as stores, closing(stores.past()) as past:
        reader = Reader(stores, past, story)
        before = reader.all()
        found = reader.older(iter(story.later))
        assert found == sorted(found, key=lambda one: (one.at, one.id), reverse=True)
        assert len({one.id for one in found}) == len(found)
        assert [one for one in found if one in before] == before


@every_store
@few_examples
@given(story=STORIES)
def test_pages_of_newer_events_have_each_once(
    empty: Callable[[], Path],
    kind: Callable[[Path, pytest.FixtureRequest], Stores],
    story: Story,
    request: pytest.FixtureRequest,
) -> None:
    with closing(kind(empty(), request)) as stores, closing(stores.past()) as past:
        reader = Reader(stores, past, story)
        found = reader.newer(iter(story.later))
        assert found == sorted(reader.all(), key=lambda one: one.id)
