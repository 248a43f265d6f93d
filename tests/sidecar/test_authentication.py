"""The sidecar answers only the server, if it is told to."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.auth.agents import Agent, Agents, send
from tests.fakes import wait_until
from tests.running import clean_environment
from tests.sidecar.running import Sidecar

METRICS = "/metrics?format=json"


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    folder = tmp_path / "agents"
    folder.mkdir()
    return Agents(folder)


@pytest.fixture
def server(agents: Agents) -> Agent:
    return agents.add("server")


@pytest.fixture
def enforcing(start: Callable[..., Sidecar], agents: Agents, tmp_path: Path) -> Sidecar:
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("s3cret-token\n")
    return start(
        SIDECAR_AUTH_MODE="enforce",
        SIDECAR_AUTH_KEYS_DIR=str(agents.public),
        SIDECAR_METRICS_TOKEN_FILE=str(tmp_path / "token"),
    )


def test_only_what_is_signed_is_answered(enforcing: Sidecar, server: Agent, agents: Agents) -> None:
    def ask(
        method: str = "GET",
        target: str = METRICS,
        *,
        version: int = 1,
        ahead_s: float = 0.0,
        name: str | None = None,
    ) -> str | int | None:
        headers = server.sign(method, METRICS, version=version, ahead_s=ahead_s, name=name)
        answer = send(enforcing.port, method, target, headers)
        return answer.reason or answer.status

    wait_until(lambda: ask() == 200)
    assert send(enforcing.port, "GET", METRICS).reason == "missing_headers"
    assert send(enforcing.port, "GET", "/health").status == 200
    assert send(enforcing.port, "GET", "/%68ealth").reason == "missing_headers"
    assert send(enforcing.port, "POST", "/health").reason == "missing_headers"
    assert send(enforcing.port, "GET", "/nothing").reason == "missing_headers"
    assert ask(target="/metrics?format=text") == 200  # the query is not signed in the first version
    assert ask(target="/Metrics") == "bad_signature"
    assert ask(version=2) == 200
    assert ask(target="/metrics?format=text", version=2) == "bad_signature"
    assert ask(ahead_s=-302) == "timestamp_out_of_window"
    assert ask(name="nobody") == "unknown_agent"
    with_body = server.sign("GET", METRICS, b"body")
    assert send(enforcing.port, "GET", METRICS, with_body, b"another").reason == "bad_signature"
    assert send(enforcing.port, "GET", METRICS, with_body).reason == "bad_signature"
    assert send(enforcing.port, "GET", METRICS, with_body, b"body").status == 200
    assert (
        send(enforcing.port, "GET", METRICS, server.sign("GET", METRICS), b"body").reason == "bad_signature"
    )
    headers = server.sign("GET", METRICS)
    assert send(enforcing.port, "GET", METRICS, headers).status == 200
    assert send(enforcing.port, "GET", METRICS, headers).reason == "nonce_replayed"
    for name, value in server.sign("GET", METRICS).items():
        twice = [*server.sign("GET", METRICS).items(), (name, value)]
        assert send(enforcing.port, "GET", METRICS, twice).reason == "malformed"
    agents.remove("server")
    assert ask() == "unknown_agent"


def test_prometheus_reads_with_a_bearer_token(enforcing: Sidecar, tmp_path: Path) -> None:
    def ask(value: str) -> int:
        return send(enforcing.port, "GET", "/metrics", {"Authorization": value}).status

    wait_until(lambda: ask("Bearer s3cret-token") == 200)
    assert ask("bearer  s3cret-token") == 200
    for wrong in ("Bearer ", "Bearer s3cret", "Basic s3cret-token", "s3cret-token", "Bearer s3cret-token2"):
        assert ask(wrong) == 401
    (tmp_path / "token").write_text("another")
    assert (ask("Bearer s3cret-token"), ask("Bearer another")) == (401, 200)
    (tmp_path / "token").chmod(0o640)
    assert ask("Bearer another") == 401
    (tmp_path / "token").chmod(0o600)
    assert ask("Bearer another") == 200
    (tmp_path / "token").write_text("\n")
    assert (ask("Bearer another"), ask("Bearer ")) == (401, 401)
    (tmp_path / "token").unlink()
    assert ask("Bearer another") == 401
    os.mkfifo(tmp_path / "token")  # which nobody opens to write
    assert ask("Bearer another") == 401


def test_observe_answers_and_writes(start: Callable[..., Sidecar], agents: Agents) -> None:
    sidecar = start(SIDECAR_AUTH_MODE="observe", SIDECAR_AUTH_KEYS_DIR=str(agents.public))
    assert sidecar.sample()
    (line, *_) = [text for text in sidecar.log.splitlines() if "would_reject" in text]
    observed = json.loads(line[line.index("{") :])
    assert observed == {
        "event": "would_reject",
        "method": "GET",
        "path": "/metrics",
        "reason": "missing_headers",
        "agent_id": None,
    }


def refused(**environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar"],
        env=clean_environment(SIDECAR_PORT="0", **environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    return done.stderr


def test_what_does_not_fit_together_does_not_start(tmp_path: Path) -> None:
    assert "expected off, observe or enforce" in refused(SIDECAR_AUTH_MODE="on")
    assert "needs SIDECAR_AUTH_KEYS_DIR" in refused(SIDECAR_AUTH_MODE="enforce")
    missing = str(tmp_path / "missing")
    assert "expected a folder" in refused(SIDECAR_AUTH_MODE="enforce", SIDECAR_AUTH_KEYS_DIR=missing)


def test_without_its_library_it_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "cryptography").mkdir()
    (tmp_path / "cryptography" / "__init__.py").write_text("raise ImportError('no cryptography here')")
    said = refused(SIDECAR_AUTH_MODE="enforce", SIDECAR_AUTH_KEYS_DIR=str(tmp_path), PYTHONPATH=str(tmp_path))
    assert "SIDECAR_AUTH_MODE=enforce needs the package cryptography" in said
    assert "python -m pip install cryptography" in said


def test_its_library_is_loaded_only_where_it_is_used(sidecar: Sidecar, enforcing: Sidecar) -> None:
    def has_cryptography(one: Sidecar) -> bool:
        return "cryptography" in Path(f"/proc/{one.process.pid}/maps").read_text()

    assert (has_cryptography(sidecar), has_cryptography(enforcing)) == (False, True)
