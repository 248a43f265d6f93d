"""The JSON Schema that editors read says what the server says."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from machines_server.machine_file import json_schema
from tests.machine_files.texts import GOOD, machine

MACHINES = Path(__file__).parents[2] / "machines"
_FILES = sorted([*MACHINES.glob("*.yaml"), *MACHINES.glob("examples/*.yaml")])


def test_the_schema_in_the_tree_is_the_one_of_the_model() -> None:
    text = (MACHINES / "machine.schema.json").read_text(encoding="utf-8")
    assert text == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_a_shipped_machine_is_valid_and_names_its_schema(path: Path) -> None:
    Draft202012Validator(json_schema()).validate(machine(path.read_bytes()).declared)
    first_line = path.read_text(encoding="utf-8").splitlines()[0]
    prefix, _, schema = first_line.partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert (path.parent / schema).resolve() == MACHINES / "machine.schema.json"


def test_every_key_of_the_schema_is_described() -> None:
    schema = json_schema()
    for part in (schema, *schema["$defs"].values()):
        assert all(field["description"] for field in part["properties"].values())


@pytest.mark.parametrize("host", ["a b", "http://a", "a:1", "[::1]", "a/b", ""])
def test_an_editor_refuses_a_host_name_with_more_in_it(host: str) -> None:
    declared = {**machine(GOOD).declared, "network": {"hostname": host}}
    assert not Draft202012Validator(json_schema()).is_valid(declared)


@pytest.mark.parametrize("host", ["box.lan", "10.0.0.1", "::1", "fd00::17:3"])
def test_an_editor_accepts_a_host_name_or_an_address(host: str) -> None:
    declared = {**machine(GOOD).declared, "network": {"hostname": host}}
    assert Draft202012Validator(json_schema()).is_valid(declared)
