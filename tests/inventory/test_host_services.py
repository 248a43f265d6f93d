"""The services that machine files and the server's own services.yaml declare."""

import os
from pathlib import Path

import pytest

from machines_server.core.machine import HostService, Problem
from machines_server.inventory.host_services import MAX_SERVICES
from machines_server.inventory.machine_file import parse_machine
from machines_server.inventory.own_services import OwnServices

MACHINE = "{name: one, role: r, hardware: {}, network: {hostname: '::1'}, models: [], services: [%s]}"


def declared(*services: str) -> tuple[tuple[HostService, ...], list[str]]:
    """The services of a machine file, and its warnings."""
    parsed = parse_machine((MACHINE % ", ".join(services)).encode(), "one.yaml")
    assert parsed.machine, parsed.problems
    assert {problem.severity for problem in parsed.problems} <= {"warning"}
    return parsed.machine.services, [f"{problem.key}: {problem.message}" for problem in parsed.problems]


def test_a_service_has_a_url_on_the_host_of_its_machine() -> None:
    services, warnings = declared("{name: web, port: 80, path: /x?y=1, description: a page, owner: me}")
    assert services == (HostService("web", 80, "/x?y=1", "a page", "http://[::1]:80/x?y=1"),)
    assert warnings == []


def test_what_cannot_be_polled_is_a_warning() -> None:
    services, warnings = declared("{name: web, port: 80}", "{name: web, port: 81}", "{port: 82}", "{name: a}")
    assert [one.port for one in services] == [80]
    assert [one.partition(": ")[0] for one in warnings] == ["services[1].name", "services[2]", "services[3]"]


def test_only_so_many_are_polled() -> None:
    services, warnings = declared(*(f"{{name: s{n}, port: 80}}" for n in range(MAX_SERVICES + 2)))
    assert len(services) == MAX_SERVICES
    assert len(warnings) == 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "services.yaml"


def names(own: OwnServices) -> list[str]:
    return [one.name for one in own.current()]


@pytest.mark.parametrize("text", ["- {name: web, port: 80}", "services:\n- {name: web, port: 80}\nnote: x"])
def test_the_own_list_stands_alone_or_under_its_key(path: Path, text: str) -> None:
    path.write_text(text)
    own = OwnServices(path)
    assert own.current() == (HostService("web", 80, "/", "", "http://127.0.0.1:80/"),)
    assert own.problems() == ()


def test_the_own_list_is_read_anew_when_it_changes(path: Path) -> None:
    own = OwnServices(path)
    assert names(own) == []
    for text, expected in (("- {name: a, port: 1}", ["a"]), ("- {name: b, port: 1}", ["b"]), ("[]", [])):
        path.write_text(text)
        assert names(own) == expected
    path.write_text("- {name: a, port: 1}")
    path.unlink()
    assert (names(own), own.problems()) == ([], ())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("- {name: a, port: 1", None),
        ("- {name: a, port: 70000}", "services[0].port"),
        ("services: x", "services"),
        ("text", None),
        ("- {name: a, port: 1}\n" * 5000, None),
    ],
)
def test_a_broken_list_leaves_the_last_good_one_in_force(path: Path, text: str, key: str | None) -> None:
    told: list[Problem] = []
    own = OwnServices(path, told.append)
    path.write_text("- {name: web, port: 80}")
    assert names(own) == ["web"]
    path.write_text(text)
    for _ in range(2):
        assert names(own) == ["web"]
        assert [problem.key for problem in own.problems()] == [key]
    assert tuple(told) == own.problems()
    path.write_text("- {name: new, port: 80}")
    assert (names(own), own.problems()) == (["new"], ())


def test_a_list_that_is_no_file_is_a_problem_and_blocks_nobody(path: Path) -> None:
    os.mkfifo(path)
    own = OwnServices(path)
    assert names(own) == []
    assert "not a regular file" in own.problems()[0].message
