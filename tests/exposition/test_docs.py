"""The commands of docs/prometheus.md do what they are shown for."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests

from tests.fakes import FakeFleet, machine_yaml
from tests.ports import free_port
from tests.programs import Program
from tests.readme import ROOT, page
from tests.running import RunningServer, wait_for_status
from tests.tools import tool

COMMANDS, OF_TOKEN = re.findall(r"^```\n(.*?)^```", page("prometheus.md"), re.DOTALL | re.MULTILINE)
SHOWN, TOKEN_FILE = "http://127.0.0.1:3038", "machines.token"


class Shown(Program):
    """A command of the page, in this checkout, with a port and a folder of its own."""

    def __init__(self, command: str, folder: Path, port_flag: str, folder_flag: str) -> None:
        super().__init__(folder / "log")
        self._port = free_port()
        flags = f"{port_flag}=127.0.0.1:{self._port} {folder_flag}={folder / 'data'}"
        self._command = f"cd {ROOT} && exec {command} {flags}"

    def _start(self) -> Sequence[str]:
        return ["sh", "-c", self._command]

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self._port}/-/healthy", timeout=10).ok
        except requests.ConnectionError:
            return False


def run(command: str, server: RunningServer | None = None, folder: Path = ROOT) -> str:
    """What a command of the page prints."""
    text = command.replace(SHOWN, server.url) if server else command
    words = ["sh", "-c", text.replace("curl ", "curl --fail --silent --show-error ")]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def command_of(program: str) -> str:
    tool(program)
    (line,) = [line for line in COMMANDS.splitlines() if line.startswith(f"{program} ")]
    return str(line)


def test_what_is_asked_of_the_server_is_answered(tmp_path: Path, fakes: FakeFleet) -> None:
    tool("curl")
    with RunningServer(tmp_path) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), None))
        wait_for_status(server, "one", "online")
        metrics, targets = (run(line, server) for line in COMMANDS.splitlines() if line.startswith("curl "))
    assert 'machines_up{machine="one"} 1' in metrics
    assert '"machine":"one"' in targets


@pytest.mark.parametrize(
    ("program", "port_flag", "folder_flag"),
    [
        ("prometheus", "--web.listen-address", "--storage.tsdb.path"),
        ("victoria-metrics", "-httpListenAddr", "-storageDataPath"),
    ],
)
def test_scrapers_start(tmp_path: Path, program: str, port_flag: str, folder_flag: str) -> None:
    with Shown(command_of(program), tmp_path, port_flag, folder_flag):
        pass


def test_the_alerts_are_tested() -> None:
    assert "SUCCESS" in run(command_of("promtool"))


def test_the_token_opens_the_fleet(tmp_path: Path) -> None:
    tool("openssl"), tool("curl")
    token = tmp_path / TOKEN_FILE
    make, serve, ask = OF_TOKEN.replace(TOKEN_FILE, str(token)).splitlines()
    run(make, folder=tmp_path)
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    setting, *words = shlex.split(serve)
    assert words == ["machines-server", "serve"]
    name, value = setting.split("=", 1)
    settings = {name: value, "AUTH_MODE": "enforce", "AUTH_KEYS_DIR": str(keys)}
    with RunningServer(tmp_path, **settings) as server:
        assert "machines_file_problems" in run(ask, server)
        assert "machines_file_problems" not in run(f"curl {SHOWN}/metrics", server)
