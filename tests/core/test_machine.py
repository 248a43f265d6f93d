"""The machines an operator declared, and which of them are polled at once."""

from typing import Any

import pytest

from machines_server.core.machine import Problem, Registry, to_poll_at_once
from tests.core.machines import a_machine


def at_once(old: list[Any], new: list[Any]) -> list[str]:
    return [machine.name for machine in to_poll_at_once(Registry(tuple(old)), Registry(tuple(new)))]


def test_only_new_machines_are_polled_at_once() -> None:
    one, two = a_machine("one"), a_machine("two")
    assert at_once([], [one, two]) == ["one", "two"]
    assert at_once([one], [one, two]) == ["two"]
    assert at_once([one, two], [one]) == []
    assert at_once([one], [one]) == []


@pytest.mark.parametrize(
    "change", [{"hostname": "10.0.0.2"}, {"port": 1}, {"sidecar_port": 1}, {"has_ollama": False}]
)
def test_a_machine_at_another_address_is_polled_at_once(change: dict[str, Any]) -> None:
    assert at_once([a_machine()], [a_machine(**change)]) == ["one"]


@pytest.mark.parametrize(
    "change", [{"role": "other"}, {"models": ("m",)}, {"file": "b.yaml"}, {"declared": {"a": 1}}]
)
def test_any_other_change_can_wait_for_the_next_cycle(change: dict[str, Any]) -> None:
    assert at_once([a_machine()], [a_machine(**change)]) == []


def test_a_disabled_port_that_changes_is_no_new_address() -> None:
    assert at_once([a_machine(has_ollama=False)], [a_machine(has_ollama=False, port=1)]) == []


def test_a_change_of_case_makes_no_new_machine() -> None:
    assert at_once([a_machine("one")], [a_machine("ONE")]) == []


@pytest.mark.parametrize(
    ("changes", "urls"),
    [
        ({}, ["http://127.0.0.1:3039", "http://127.0.0.1:11434"]),
        ({"hostname": "::1", "has_sidecar": False}, ["http://[::1]:11434"]),
        ({"hostname": "a.lan", "has_ollama": False, "sidecar_port": 80}, ["http://a.lan:80"]),
        ({"has_ollama": False, "has_sidecar": False}, []),
    ],
)
def test_the_urls_of_a_machine_follow_from_its_file(changes: dict[str, Any], urls: list[str]) -> None:
    machine = a_machine(**changes)
    assert [endpoint.url for endpoint in machine.endpoints.values()] == urls


def test_a_machine_is_found_by_its_name_in_any_case() -> None:
    one = a_machine("One")
    registry = Registry((one,))
    assert registry.get("oNE") is one
    assert registry.get("two") is None
    assert list(registry) == [one]
    assert len(registry) == 1


def test_a_problem_reads_like_a_compilers_line() -> None:
    assert str(Problem("a.yaml", "is missing", 3, 5, "role")) == "a.yaml:3:5: role: is missing"
    assert str(Problem("a.yaml", "is unreadable")) == "a.yaml: is unreadable"
