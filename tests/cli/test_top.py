"""The live table: it is redrawn, follows the size of the terminal, and leaves it as it was."""

import os
import re
import signal

import pytest

from tests.cli.conftest import LONG
from tests.ports import free_port
from tests.running import RunningServer, command
from tests.terminal import PROGRAM, Terminal, in_terminal
from tests.tools import tool

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def top(server: RunningServer, *words: str, columns: int = 80, lines: int = 24) -> Terminal:
    environment = {"MACHINES_URL": server.url, "TERM": "xterm"}
    return Terminal([PROGRAM, "top", *words], environment, columns=columns, lines=lines)


def drawn(text: str) -> list[str]:
    """The lines of the last whole drawing."""
    screen = text.rpartition("\x1b[H")[2]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen).split("\r\n")


def test_the_table_is_redrawn_in_place_until_q_is_typed(fleet: RunningServer) -> None:
    with top(fleet, "--interval-s", "1") as terminal:
        before = terminal.settings()
        first = terminal.wait_for(r"q quits")
        assert ENTER in first
        lines = drawn(first)
        assert re.match(r"\d\d:\d\d:\d\d  2 online  1 offline", lines[0])
        assert lines[1].split()[:3] == ["NAME", "STATUS", "CPU"]
        assert [line.split()[0] for line in lines[2:-1]] == ["attic", f"{LONG[:15]}…", "workstation"]
        assert "21 + 26" in lines[4]
        assert all(len(line) <= 80 for line in lines)
        terminal.wait_for(r"q quits")  # again, by itself
        assert terminal.settings() != before
        terminal.type("q")
        done = terminal.end()
        assert done.returncode == 0
        assert done.text.rstrip().endswith(LEAVE)
        assert "\x1b[?25h" in done.text
        assert terminal.settings() == before


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_it_and_restore_the_terminal(fleet: RunningServer, number: int, status: int) -> None:
    with top(fleet) as terminal:
        before = terminal.settings()
        terminal.wait_for("q quits")
        if number == signal.SIGINT:
            terminal.type("\x03")
        else:
            os.kill(terminal.process.pid, number)
        done = terminal.end()
        assert done.returncode == status
        assert LEAVE in done.text
        assert "Traceback" not in done.text
        assert terminal.settings() == before


def test_it_follows_the_size_of_the_terminal_and_scrolls(fleet: RunningServer) -> None:
    with top(fleet) as terminal:
        terminal.wait_for("q quits")
        terminal.resize(40, 5)
        small = drawn(terminal.wait_for("more: scroll with the arrow keys; q"))
        assert len(small) == 5
        assert all(len(line) <= 40 for line in small)
        terminal.type("\x1b[B")
        terminal.wait_for(rf"\x1b\[1m[^\r]*\r\n[^\r]*{LONG[:8]}")
        terminal.resize(20, 3)
        whole = r"(?s)\x1b\[H.*\x1b\[J"  # the last drawing of the size before may not have ended yet
        assert all(len(line) <= 20 for line in drawn(terminal.wait_for(whole)))
        terminal.type("q")
        assert terminal.end().returncode == 0


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(fleet: RunningServer) -> None:
    environment = {"MACHINES_URL": fleet.url, "PS1": "ready>"}
    with Terminal([tool("bash"), "--norc", "-i"], environment) as shell:
        shell.wait_for("ready>")
        shell.type(f"{PROGRAM} top\n")
        shell.wait_for("q quits")
        shell.type("\x1a")
        stopped = shell.wait_for("Stopped[^>]*ready>")
        assert LEAVE in stopped
        shell.type("echo is it there | tr a-z A-Z\n")
        shell.wait_for("IS IT THERE[^>]*ready>")
        shell.type("fg\n")
        shell.wait_for(re.escape(ENTER))
        shell.wait_for("q quits")
        shell.type("q")
        assert LEAVE in shell.wait_for("ready>")


def test_a_terminal_that_can_only_print_is_wrong_usage(fleet: RunningServer) -> None:
    done = in_terminal({"MACHINES_URL": fleet.url, "TERM": "dumb"}, "top")
    assert done.returncode == 2
    assert "\x1b" not in done.text


def test_it_says_that_the_server_does_not_answer_and_goes_on() -> None:
    url = f"127.0.0.1:{free_port()}"
    with Terminal([PROGRAM, "top", "--server", url, "--interval-s", "1"], {}) as terminal:
        terminal.wait_for("cannot be reached")
        terminal.type("q")
        assert terminal.end().returncode == 0


def test_without_a_terminal_it_is_wrong_usage(fleet: RunningServer) -> None:
    done = command("top", MACHINES_URL=fleet.url)
    assert done.returncode == 2
    assert "top needs a terminal" in done.stderr
