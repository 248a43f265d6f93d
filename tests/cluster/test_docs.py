"""The page about several servers is true: its example starts two of them."""

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import requests

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.ports import free_port
from tests.postgres import Postgres, program
from tests.readme import page
from tests.running import clean_environment
from tests.store.promql.engines import Engine
from tests.tools import tool

PAGE = page("cluster.md")


def example(postgres: Postgres, ports: dict[str, int]) -> str:
    """The commands of the page, for a database and ports of this test."""
    text = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
    for shown, port in ports.items():
        assert shown in text
        text = text.replace(shown, str(port))
    text, changed = re.subn("@127.0.0.1/", f"@127.0.0.1:{postgres.port}/", text)
    assert changed == 2
    return text


def test_the_example_starts_two_servers(
    tmp_path: Path, postgres: Postgres, engine: Engine, fakes: FakeFleet
) -> None:
    ports = {shown: free_port() for shown in ("3038", "3048", "8428")}
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama()))
    programs = {Path(sys.executable).parent, program("psql").parent, Path(tool("victoria-metrics")).parent}
    path = ":".join([*map(str, programs), os.environ["PATH"]])
    with (tmp_path / "log").open("wb") as log:
        shell = subprocess.Popen(
            [tool("bash"), "-c", f"{example(postgres, ports)}\nwait"],
            cwd=tmp_path,
            env=clean_environment(PATH=path),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    servers = Servers(tmp_path, postgres.url("trial"), engine)
    try:
        for shown in ("3038", "3048"):
            url = f"http://127.0.0.1:{ports[shown]}"
            wait_until(partial(is_well, url), 60)
        wait_until(lambda: servers.are_divided(2), 60)
        wait_until(lambda: "standbys: none: " in (tmp_path / "log").read_text())
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(60)
    text = (tmp_path / "log").read_text()
    assert "applied 0001_several_servers.sql" in text


def is_well(url: str) -> bool:
    """Whether a server answers, and its machine is online."""
    try:
        machines = requests.get(f"{url}/api/infrastructure", timeout=60).json()["machines"]
    except requests.ConnectionError:
        return False
    return [machine["status"] for machine in machines] == ["online"]
