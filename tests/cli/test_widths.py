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
ERRORS = re.compile(r"^(?:(?:error|warning|machines-server): |unknown on )", re.MULTILINE)


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
