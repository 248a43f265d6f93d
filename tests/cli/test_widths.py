"""Every command fits a terminal of any width, and loses nothing in a pipe."""

import re
import unicodedata
from collections.abc import Iterator

import pytest

from tests.cli.conftest import LLAMA, LONG
from tests.commands import Commands
from tests.running import RunningServer, command
from tests.terminal import in_terminal

COMMANDS = (
    ("list",),
    ("list", "--status", "online", "--sort", "free"),
    ("ps",),
    ("ps", "workstation"),
    ("models",),
    ("leases",),
    ("show", "workstation"),
    ("show", LONG),
    ("show", "attic"),
    ("history", "workstation", "--from", "-5m"),
    ("events",),
    ("pick", LLAMA),
    ("pick", "phi3:mini", "--explain"),
    ("pick", LLAMA, "--explain"),
    ("doctor",),
    ("validate",),
    ("completion", "bash"),
)
TABLES = ("list", "ps", "models", "leases", "show", "history", "events")
"""What must fit; the others print sentences, which the terminal wraps."""
ERRORS = re.compile(r"^(?:(?:error|warning|machines-server): |models unknown on )", re.MULTILINE)


def columns_of(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in line)


@pytest.fixture(scope="module")
def commands(fleet: RunningServer) -> Iterator[Commands]:
    with Commands(**fleet.settings, MACHINES_URL=fleet.url, TERM="xterm") as commands:
        yield commands


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_every_command_fits_the_terminal(commands: Commands, columns: int) -> None:
    for words in COMMANDS:
        done = commands.run_in_terminal(*words, columns=columns)
        assert "Traceback" not in done.text, done.text
        assert done.returncode in (0, 1), (words, done.text)
        if words[0] in TABLES:
            shown = ERRORS.split(done.plain)[0].splitlines()
            assert shown, words
            assert [line for line in shown if columns_of(line) > columns] == [], words


@pytest.mark.parametrize("columns", [32, 40, 60])
def test_help_fits_the_terminal(commands: Commands, columns: int) -> None:
    for words in ((), ("ps",), ("events",), ("leases", "release")):
        help_text = commands.run_in_terminal(*words, "--help", columns=columns).plain
        described = help_text.partition("\n\n")[2].partition("Examples:")[0]  # what is typed is not broken
        assert described, help_text
        assert [line for line in described.splitlines() if columns_of(line) > columns] == [], words


def test_what_show_says_of_the_hardware_is_not_cut(commands: Commands) -> None:
    shown = commands.run_in_terminal("show", "workstation", columns=40).plain
    hardware = shown.partition("Hardware now")[2].partition("Models in memory")[0]
    assert "…" not in hardware
    assert "21 GiB free of 24 GiB" in " ".join(hardware.split())
    assert "28 GiB free of 48 GiB" in " ".join(hardware.split())


def test_a_pipe_gets_whole_tables_without_colours(fleet: RunningServer) -> None:
    with Commands(**fleet.settings, MACHINES_URL=fleet.url, COLUMNS="20") as commands:
        for words in COMMANDS:
            done = commands.run(*words)
            assert b"\x1b" not in done.stdout + done.stderr
            assert b"Traceback" not in done.stderr, done.stderr
            assert "…" not in done.stdout.decode(), words
    listed = command("list", MACHINES_URL=fleet.url).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "attic", LONG, "workstation"]
    assert listed[1].endswith("sidecar and ollama: connection refused")


def test_colours_are_for_terminals_that_have_them(fleet: RunningServer) -> None:
    def is_coloured(**environment: str) -> bool:
        return "\x1b[" in in_terminal({"MACHINES_URL": fleet.url, **environment}, "list").text

    assert is_coloured()
    assert not is_coloured(NO_COLOR="1")
    assert not is_coloured(TERM="dumb")


def test_json_is_whole_on_a_narrow_terminal(fleet: RunningServer) -> None:
    for name in ("list", "ps", "models", "leases", "events"):
        on_terminal = in_terminal({"MACHINES_URL": fleet.url}, name, "--json", columns=20).text
        assert len(on_terminal) > 100
        assert "\x1b" not in on_terminal
