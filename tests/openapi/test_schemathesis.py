"""Schemathesis sends all that openapi.json allows and much that it forbids, and finds no fault."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.auth.agents import Agents
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.openapi.description import DESCRIPTION
from tests.running import RunningServer, clean_environment
from tools.openapi import PATH

ROOT = Path(__file__).parents[2]
MODES = ("off", "observe", "enforce")
MODEL = "llama3.1:70b"


def ask_everything(folder: Path, mode: str, *how: str) -> None:
    """Run schemathesis on a server in that AUTH_MODE, signing where that is needed; `how` are options."""
    agents = Agents(folder)
    agent = agents.add("tester")
    key = {"MACHINES_AGENT_ID": agent.name, "MACHINES_PRIVATE_KEY": str(agent.private_key)}
    settings = {"AUTH_MODE": mode, "AUTH_OBSERVE_LOG": str(folder / "observe.log")}
    if mode != "off":
        settings |= {"AUTH_KEYS_DIR": str(agents.public)}
    with FakeFleet() as fakes, RunningServer(folder, **settings) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(MODEL), (MODEL,)))
        wait_until(lambda: "poller" in server.get("/health").json())
        environment = clean_environment(
            SCHEMATHESIS_HOOKS="tests.openapi.hooks",
            PYTHONPATH=str(ROOT),
            PYTHONWARNINGS="ignore",  # of others' making
            **(key if mode == "enforce" else {}),
        )
        words = [
            *("--config-file", str(ROOT / "tests" / "openapi" / "schemathesis.toml"), "run", str(PATH)),
            *("--url", server.url, "--continue-on-failure", *how),
        ]
        done = subprocess.run(
            [Path(sys.executable).with_name("st"), "--no-color", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        operations = len(DESCRIPTION.operations())
        assert f"Tested: {operations}" in done.stdout, done.stdout
        assert "ERROR" not in server.log.read_text()


@pytest.mark.parametrize("mode", MODES)
def test_schemathesis_finds_nothing(tmp_path: Path, mode: str) -> None:
    ask_everything(tmp_path, mode, "--phases", "fuzzing", "--max-examples", "5")


@pytest.mark.slow
def test_schemathesis_finds_nothing_at_limits(tmp_path: Path) -> None:
    ask_everything(tmp_path, "enforce", "--phases", "coverage")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_schemathesis_finds_nothing_in_minutes(tmp_path: Path, mode: str) -> None:
    ask_everything(tmp_path, mode, "--max-examples", "50")
