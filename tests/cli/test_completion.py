"""Completion, as shells request it."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import LLAMA, LONG
from tests.ports import free_port
from tests.running import RunningServer, clean_environment, command
from tests.terminal import PROGRAM, Terminal
from tests.tools import tool

ASK = """
eval "$(machines-server completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
compopt() { :; }
_machines_server_completion machines-server
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(typed: str, url: str = "") -> list[str]:
    """What bash offers after what has been typed."""
    environment = clean_environment(PATH=f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}")
    if url:
        environment["MACHINES_URL"] = url
    done = subprocess.run(
        [tool("bash"), "--norc", "-c", ASK, "bash", typed],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_and_options() -> None:
    assert complete("machines-server l") == ["leases", "list", "login", "logout"]
    assert complete("machines-server leases rel") == ["release"]
    assert complete("machines-server list --st") == ["--status"]
    assert complete("machines-server list --status o") == ["online", "offline"]


def test_bash_completes_names_that_the_server_knows(fleet: RunningServer) -> None:
    assert complete("machines-server show ", fleet.url) == ["attic", LONG, "workstation"]
    assert complete("machines-server history work", fleet.url) == ["workstation"]
    assert complete("machines-server list --tag f", fleet.url) == ["fast"]
    assert complete(f"machines-server show --server {fleet.url} att") == ["attic"]
    assert complete("machines-server pick ll", fleet.url) == [LLAMA]
    assert len(complete("machines-server leases release ", fleet.url)) == 1


def test_bash_takes_the_part_after_a_colon_for_a_word(fleet: RunningServer) -> None:
    assert complete("machines-server pick llama3.1:", fleet.url) == ["70b"]
    assert complete("machines-server pick llama3.1:7", fleet.url) == ["70b"]


@pytest.mark.parametrize("typed", ["machines-server show 'wo", 'machines-server "'])
def test_odd_lines_are_no_error(typed: str) -> None:
    assert complete(typed) == []


def test_completion_is_silent_if_the_server_does_not_answer() -> None:
    assert complete("machines-server show ", f"127.0.0.1:{free_port()}") == []
    assert complete("machines-server show ", "nonsense") == []
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        assert complete("machines-server show ", f"127.0.0.1:{deaf.getsockname()[1]}") == []
        assert time.monotonic() - began < 30


def test_scripts_for_every_shell_are_printed() -> None:
    begin = {"bash": "_machines_server_completion()", "zsh": "#compdef machines-server", "fish": "function"}
    for shell, begins in begin.items():
        done = command("completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(begins)
        assert f"_MACHINES_SERVER_COMPLETE={shell}_complete" in done.stdout
    assert command("completion", "tcsh").returncode == 2


SHELLS = {"bash": lambda: tool("bash"), "zsh": lambda: tool("zsh"), "fish": lambda: tool("fish")}
"""The paths of the shells; the test that asks for one is left out where it is missing."""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_are_valid(shell: str) -> None:
    script = command("completion", shell).stdout
    subprocess.run([SHELLS[shell](), "-n"], input=script, text=True, check=True, timeout=30)


SETUP = {
    "bash": (["--norc", "-i"], 'eval "$(machines-server completion bash)"'),
    "zsh": (["-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(machines-server completion zsh)"'),
    "fish": (["--no-config"], "machines-server completion fish | source"),
}


TYPED = [("show work", "workstation"), ("pick llama3.1:7", "llama3.1:70b")]


@pytest.mark.parametrize("shell", SETUP)
@pytest.mark.parametrize(("typed", "completed"), TYPED)
def test_the_tab_key_completes(
    fleet: RunningServer, tmp_path: Path, shell: str, typed: str, completed: str
) -> None:
    words, setup = SETUP[shell]
    environment = {
        "PATH": f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "MACHINES_URL": fleet.url,
    }
    with Terminal([SHELLS[shell](), *words], environment, columns=120) as terminal:
        terminal.type(f"{setup}; echo is ready | tr a-z A-Z\n")
        terminal.wait_for("IS READY")
        terminal.type(f"machines-server {typed}\t")
        terminal.wait_for(completed)
