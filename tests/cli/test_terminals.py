"""Terminals without UTF-8, and readers that have gone: characters are replaced, nobody sees a traceback."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, clean_environment, wait_for_status

SHOWN = {
    "ascii": "J?rgens Box ?",
    "latin-1": "Jürgens Box ?",
    "cp1252": "Jürgens Box ?",
    "utf-8": "Jürgens Box ☃",
}
TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "LANG=C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
COMMANDS = (
    ("list",),
    ("show", "one"),
    ("history", "one"),
    ("history", "one", "--csv"),
    ("events",),
    ("doctor",),
    ("validate",),
    ("pick", "qwen☃"),
    ("pick", "qwen☃", "--explain"),
    ("show", "nöbody☃"),
    ("show", b"\xff\xfe"),
    ("history", b"\xff", "--metric", b"\xfe"),
    ("list", "--server", "http://nö☃.invalid:1"),
    ("nö☃",),
    ("--help",),
    ("validate", "nö☃"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a machine of which much is not ASCII, and with a file that is wrong."""
    folder = tmp_path_factory.mktemp("terminals")
    with FakeFleet() as fakes, RunningServer(folder) as server:
        text = machine_yaml("one", fakes.sidecar(), fakes.ollama())
        server.write("one.yaml", text.replace('"role": "', '"role": "Jürgens Box ☃ '))
        server.write("wrong☃.yaml", "name: wrong\nrole: [ü☃\n")
        wait_for_status(server, "one", "online")
        wait_until(lambda: server.get("/api/machines/one/history?metric=cpu_percent").json()["series"])
        yield server


def run(server: RunningServer, *words: str | bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    settings = clean_environment(**server.settings, MACHINES_URL=server.url, **environment)
    command = [sys.executable, "-m", "machines_server", *words]
    return subprocess.run(command, env=settings, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("terminal", TERMINALS)
def test_every_command_prints_on_every_terminal(server: RunningServer, terminal: str) -> None:
    with Commands(**server.settings, MACHINES_URL=server.url, **TERMINALS[terminal]) as commands:
        for words in COMMANDS:
            done = commands.run(*words)
            output = done.stdout + done.stderr
            assert b"Traceback" not in output, output.decode("latin-1")
            assert done.returncode in (0, 1, 2), words
            assert output, words


@pytest.mark.parametrize("encoding", SHOWN)
def test_what_a_terminal_has_no_character_for_is_a_question_mark(
    server: RunningServer, encoding: str
) -> None:
    done = run(server, "list", PYTHONIOENCODING=encoding)
    assert SHOWN[encoding] in done.stdout.decode(encoding)


def test_sparklines_are_drawn_in_letters_where_there_are_no_blocks(server: RunningServer) -> None:
    drawn = run(server, "history", "one", PYTHONIOENCODING="ascii").stdout.decode("ascii")
    assert "?" not in drawn
    assert re.search(r"^cpu_percent .*[_.,=+*#-]", drawn, re.MULTILINE)
    assert "▁" in run(server, "history", "one", PYTHONIOENCODING="utf-8").stdout.decode()


@pytest.mark.parametrize("terminal", TERMINALS)
def test_the_logs_of_server_and_sidecar_show_on_every_terminal(tmp_path: Path, terminal: str) -> None:
    settings = clean_environment(
        MACHINES_DIR=str(tmp_path / "none☃"),
        MACHINES_DATA_DIR=str(tmp_path),
        MACHINES_HOST="nö☃.invalid",
        SIDECAR_HOST="nö☃.invalid",
        **TERMINALS[terminal],
    )
    for words in (["machines_server", "serve"], ["sidecar"], ["sidecar", "nö☃"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], env=settings, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 2
        assert done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["list"], ["events", "--json"], ["--help"]])
def test_a_reader_that_is_gone_and_a_full_disk_are_no_traceback(
    server: RunningServer, words: list[str]
) -> None:
    settings = clean_environment(**server.settings, MACHINES_URL=server.url)
    command = shlex.join([sys.executable, "-m", "machines_server", *words])
    for where in ("| true", ">/dev/full", ">&-", ">/dev/full 2>&1", "2>&- >&-"):
        done = subprocess.run(
            ["sh", "-c", f"{command} {where}"], env=settings, capture_output=True, timeout=60, check=False
        )
        assert b"Traceback" not in done.stderr, (where, done.stderr)
        assert b"Exception ignored" not in done.stderr, (where, done.stderr)
        if where == ">/dev/full":
            assert (done.returncode, done.stderr) == (1, b"machines-server: No space left on device\n")
