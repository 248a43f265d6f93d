"""A server that enforces signatures, for all tests of a module."""

from collections.abc import Iterator

import pytest

from tests.auth.enforcing import Enforcing, enforcing_server


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcing]:
    """A server with AUTH_MODE=enforce that knows the agent `me`."""
    with enforcing_server(tmp_path_factory.mktemp("enforcing")) as enforcing:
        yield enforcing
