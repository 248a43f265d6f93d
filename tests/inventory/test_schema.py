"""The JSON Schema for editors agrees with the server."""

from pathlib import Path

import pytest

from machines_server.inventory.schema import json_schema
from tests.inventory.texts import GOOD, editor_schema, machine
from tools import schema

MACHINES = Path(__file__).parents[2] / "machines"
_FILES = sorted([*MACHINES.glob("*.yaml"), *MACHINES.glob("examples/*.yaml")])


def test_the_schema_in_the_tree_is_the_one_of_the_model() -> None:
    is_current = schema.PATH.read_text("utf-8") == schema.text()
    assert is_current, "machines/machine.schema.json is out of date; run python -m tools.schema"
    editor_schema().check_schema(json_schema())


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_a_shipped_machine_is_valid_and_names_its_schema(path: Path) -> None:
    editor_schema().validate(machine(path.read_bytes()).declared)
    first_line = path.read_text(encoding="utf-8").splitlines()[0]
    prefix, _, named = first_line.partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert (path.parent / named).resolve() == schema.PATH


def test_every_key_of_the_schema_is_described() -> None:
    whole = json_schema()
    for part in (whole, *whole["$defs"].values()):
        assert all(field["description"] for field in part["properties"].values())


@pytest.mark.parametrize("host", ["a b", "http://a", "a:1", "[::1]", "a/b", ""])
def test_an_editor_refuses_a_host_name_with_more_in_it(host: str) -> None:
    declared = {**machine(GOOD).declared, "network": {"hostname": host}}
    assert not editor_schema().is_valid(declared)


@pytest.mark.parametrize("host", ["box.lan", "10.0.0.1", "::1", "fd00::17:3"])
def test_an_editor_accepts_a_host_name_or_an_address(host: str) -> None:
    declared = {**machine(GOOD).declared, "network": {"hostname": host}}
    assert editor_schema().is_valid(declared)
