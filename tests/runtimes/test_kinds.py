"""The kinds of server in the table can be polled."""

import pytest

from machines_server.runtimes.base import Runtime
from machines_server.runtimes.kinds import KINDS
from tests.inventory.texts import ALL, machine


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_has_all_that_the_poller_and_the_hints_need(name: str) -> None:
    for key in Runtime.__annotations__:
        assert hasattr(KINDS[name], key), f"{KINDS[name].__name__} lacks {key}"


def test_every_endpoint_that_a_machine_file_can_declare_is_of_a_kind_in_the_table() -> None:
    assert machine(ALL).endpoints.keys() - KINDS.keys() == set(), "add its class to runtimes/kinds.py"
