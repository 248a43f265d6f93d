"""Servers for tests of clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.scripted_server import ScriptedServer
from tests.client.two import Two, two_machines


@pytest.fixture(scope="module")
def two_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two_machines(tmp_path_factory.mktemp("two")) as both:
        yield both


@pytest.fixture
def two(two_of_all: Two) -> Iterator[Two]:
    """Both stay as they are: for tests that leave nothing but leases."""
    yield two_of_all
    for one in two_of_all.client.leases().leases:
        two_of_all.client.release(one.lease)


@pytest.fixture
def mortal_two(tmp_path: Path) -> Iterator[Two]:
    """For tests that stop one."""
    with two_machines(tmp_path) as both:
        yield both


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server that answers as it is told."""
    with ScriptedServer() as server:
        yield server
