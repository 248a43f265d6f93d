"""The output of server, sidecar and commands contains no private key, passphrase, token or session."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from machines_client import Client, ClientError
from request_signing.keys import make_pair
from tests.auth.agents import Agent, Agents, send
from tests.fakes import wait_until
from tests.running import ANEW, RunningServer, command
from tests.sidecar.running import Sidecar

PASSPHRASE, TOKEN = "0pen-sesame-of-the-poller", "t0ken-of-prometheus"
PATHS = [
    *("/", "/login", "/metrics", "/health", "/health/ready", "/openapi.json", "/api/machines"),
    *("/api/infrastructure", "/api/machines/one", "/api/machines/one/file", "/api/events", "/api/leases"),
    *(
        "/api/system",
        "/api/models",
        "/api/route?model=none",
        "/nothing",
        "/api/machines/one/history?metric=up",
    ),
]


def forms(secret: bytes) -> set[bytes]:
    """How bytes may be written."""
    return {
        secret,
        secret.hex().encode(),
        b64encode(secret).rstrip(b"="),
        urlsafe_b64encode(secret).rstrip(b"="),
    }


def of_key(file: bytes, passphrase: str | None = None) -> set[bytes]:
    """A private key: the lines of its file, and the number itself."""
    key = load_ssh_private_key(file, passphrase.encode() if passphrase else None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return forms(raw) | {line for line in file.splitlines()[3:-1] if len(line) > 20}


def family(pid: int) -> Iterator[psutil.Process]:
    process = psutil.Process(pid)
    yield process
    yield from process.children(recursive=True)


@contextmanager
def own_sidecar(folder: Path, keys: Path) -> Iterator[Sidecar]:
    """A sidecar that answers the server alone, or whoever has the token."""
    folder.mkdir()
    (folder / "token").touch(0o600)
    (folder / "token").write_text(TOKEN)
    settings = {
        "SIDECAR_AUTH_MODE": "enforce",
        "SIDECAR_AUTH_KEYS_DIR": str(keys),
        "SIDECAR_METRICS_TOKEN_FILE": str(folder / "token"),
    }
    sidecar = Sidecar(folder, settings)
    try:
        yield sidecar
    finally:
        sidecar.end()


class Running(NamedTuple):
    """A server that signs what it asks a sidecar, both with secrets of their own."""

    server: RunningServer
    sidecar: Sidecar
    agent: Agent
    own_key: Path

    @property
    def port(self) -> int:
        return int(self.server.settings["MACHINES_PORT"])

    def signed(self, path: str) -> bytes:
        """The answer to an agent."""
        return send(self.port, "GET", path, self.agent.sign("GET", path)).body


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    agents = Agents(tmp_path)
    agent, own_key = agents.add("me"), tmp_path / "directory"
    private, public = make_pair("directory", PASSPHRASE)
    own_key.touch(0o600)
    own_key.write_bytes(private)
    (agents.public / "directory.pub").write_bytes(public)
    settings = {
        "AUTH_MODE": "enforce",
        "AUTH_KEYS_DIR": str(agents.public),
        "MACHINES_LOG_LEVEL": "debug",
        "MACHINES_AGENT_ID": "directory",
        "MACHINES_PRIVATE_KEY": str(own_key),
        "MACHINES_KEY_PASSPHRASE": PASSPHRASE,
    }
    with (
        own_sidecar(tmp_path / "sidecar", agents.public) as sidecar,
        RunningServer(tmp_path, prefix=ANEW, **settings) as server,
    ):
        network = {"hostname": "127.0.0.1", "sidecar_port": sidecar.port, "ollama": False}
        one = {"name": "one", "role": "test", "hardware": {}, "network": network, "models": []}
        server.write("one.yaml", json.dumps(one))
        found = Running(server, sidecar, agent, own_key)
        wait_until(lambda: b'"online"' in found.signed("/api/infrastructure"))
        yield found


def test_no_secret_is_in_anything_that_is_emitted(running: Running) -> None:
    server, agent = running.server, running.agent
    me = {"MACHINES_AGENT_ID": "me", "MACHINES_PRIVATE_KEY": str(agent.private_key)}
    hidden = of_key(agent.private_key.read_bytes()) | of_key(running.own_key.read_bytes(), PASSPHRASE)
    hidden |= {PASSPHRASE.encode(), TOKEN.encode()}
    token = command("login", MACHINES_URL=server.url, **me).stdout.strip().partition("token=")[2]
    with requests.Session() as session:
        session.post(f"{server.url}/login", {"token": token}, timeout=20)
        cookie = session.cookies["machines_session"]
        emitted = said_by_server(running, session)
    hidden |= {text.encode() for text in (token, cookie, *token.split("."), *cookie.split("."))}
    hidden |= forms((server.data / "session.key").read_bytes())
    emitted |= said_of_misplaced(running, token, cookie)
    emitted |= said_by_sidecar(running.sidecar)
    for process in (*family(server.process.pid), *family(running.sidecar.process.pid)):
        emitted[f"command line of {process.pid}"] = " ".join(process.cmdline()).encode()
        shown = {name: value for name, value in process.environ().items() if "PASSPHRASE" not in name}
        emitted[f"environment of {process.pid}"] = json.dumps(shown).encode()
    emitted |= said_by_commands({"MACHINES_URL": server.url, **me}, server.settings)
    emitted |= said_by_clients(server.url, agent.private_key, running.own_key)
    emitted["log of the sidecar"] = running.sidecar.stderr.read_bytes()
    for file in [server.log, *(one for one in server.data.rglob("*") if one.is_file())]:
        emitted[file.name] = file.read_bytes()
    del emitted["session.key"]  # which only this user can read
    assert (server.data / "session.key").stat().st_mode & 0o077 == 0
    assert b"requests to sidecars are signed" in emitted["doctor"]
    assert b"refused GET" in emitted["serve.log"]
    told = [(where, secret) for where, said in emitted.items() for secret in hidden if secret in said]
    assert told == []


def said_by_server(running: Running, session: requests.Session) -> dict[str, bytes]:
    """Its answers, to somebody who is signed in, to an agent, and to nobody."""
    said = {}
    for path in PATHS:
        answer = session.get(running.server.url + path, timeout=20)
        said[f"in a session {path}"] = str(answer.headers).encode() + answer.content
        said[f"signed {path}"] = running.signed(path)
        said[f"unsigned {path}"] = send(running.port, "GET", path).body
    assert b"online" in said["in a session /api/infrastructure"]
    return said


def said_of_misplaced(running: Running, token: str, cookie: str) -> dict[str, bytes]:
    """What is said of requests that have secrets where none belong, or damaged ones."""
    given = {"Authorization": f"Bearer {TOKEN}x", "Cookie": f"machines_session={cookie}x", "X-P": PASSPHRASE}
    body = f"token={token}x&passphrase={PASSPHRASE}".encode()
    said = {}
    for port, method, path, more in product(
        (running.port, running.sidecar.port),
        ("GET", "POST", "BREW"),
        (f"/nothing?token={token}", "/metrics", "/login", "/\x01"),
        ({}, {"X-Signature": cookie}, {"Bad Header": TOKEN}),
    ):
        said[f"{port} {method} {path} {more}"] = send(port, method, path, given | more, body).body
    return said


def said_by_sidecar(sidecar: Sidecar) -> dict[str, bytes]:
    """Its answers to Prometheus."""
    said = {}
    for accept in ("application/json", "text/plain"):
        answer = sidecar.get(Accept=accept, Authorization=f"Bearer {TOKEN}")
        assert answer.status == 200
        said[f"sidecar {accept}"] = str(answer.headers).encode() + answer.body
    return said


def said_by_commands(asking: Mapping[str, str], here: Mapping[str, str]) -> dict[str, bytes]:
    """What commands print that ask the server, and doctor on its host."""
    said = {}
    wrong = dict(here) | {"MACHINES_KEY_PASSPHRASE": f"{PASSPHRASE}x"}
    for name, words, environment in (
        ("list", ["list"], asking),
        ("sign", ["sign", "GET", "/"], asking),
        ("doctor of the server", ["doctor"], asking),
        ("doctor", ["doctor"], here),
        ("doctor, wrong passphrase", ["doctor"], wrong),
        ("sign, wrong passphrase", ["sign", "GET", "/"], wrong),
    ):
        done = command(*words, **environment)
        said[name] = (done.stdout + done.stderr).encode()
    assert b"or the passphrase is wrong" in said["sign, wrong passphrase"]
    return said


def said_by_clients(url: str, key: Path, protected: Path) -> dict[str, bytes]:
    """How clients and their errors look."""
    client = Client(url, agent="me", private_key=key)
    with pytest.raises(ClientError) as caught:
        Client(url, agent="directory", private_key=protected, passphrase=f"{PASSPHRASE}x")
    texts = repr(client), repr(vars(client)), str(caught.value), repr(client.session)
    return {f"client {number}": text.encode() for number, text in enumerate(texts)}
