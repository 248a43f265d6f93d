"""A fleet for recipes."""

from collections.abc import Iterator

import pytest

from tests.recipes.running import Fleet, running_fleet


@pytest.fixture(scope="module")
def fleet_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture
def fleet(fleet_of_all: Fleet) -> Iterator[Fleet]:
    """Without jobs of another recipe."""
    yield fleet_of_all
    fleet_of_all.workstation.jobs.clear()
    fleet_of_all.office.jobs.clear()
