"""The three modes, the key-server, and settings that do not fit together."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from request_signing.keys import PublicKeys
from request_signing.message import body_hash
from tests.auth.agents import Agent, Agents, Answer, send
from tests.ports import free_port
from tests.running import RunningServer, command

FLEET = "/api/infrastructure"


def lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_observe_lets_everything_pass_and_writes_what_it_would_refuse(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    agent, log = agents.add("me"), tmp_path / "logs" / "observed.log"
    settings = {"AUTH_KEYS_DIR": str(agents.public), "AUTH_OBSERVE_LOG": str(log)}
    with RunningServer(tmp_path, AUTH_MODE="observe", **settings) as server:
        port = int(server.settings["MACHINES_PORT"])
        headers = agent.sign("GET", FLEET)
        forged = agent.sign("GET", "/elsewhere")
        body = b'{"model": "nowhere"}'
        for given in ({}, headers, headers, forged):
            assert send(port, "GET", f"{FLEET}?secret=1", given).status == 200
        late = agent.sign("GET", FLEET, ahead_s=-400)
        assert send(port, "GET", FLEET, late).status == 200
        assert b"no_machine" in send(port, "POST", "/api/leases", forged, body).body
        assert send(port, "GET", "/health").status == 200
    written = [line for line in lines(log) if line["agent_id"] or line["path"] == FLEET]
    assert {line["event"] for line in written} == {"would_reject"}
    found = [(line["method"], line["path"], line["reason"], line["agent_id"]) for line in written]
    unsigned = ("GET", FLEET, "missing_headers", None)
    assert found[found.index(unsigned) :] == [
        unsigned,
        ("GET", FLEET, "nonce_replayed", "me"),
        ("GET", FLEET, "bad_signature", "me"),
        ("GET", FLEET, "timestamp_out_of_window", "me"),
        ("POST", "/api/leases", "bad_signature", "me"),
    ]
    assert set(written[0]) == {"ts", "event", "method", "path", "reason", "agent_id"}
    assert log.stat().st_mode & 0o077 == 0


def test_off_looks_at_no_signature(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    agent = agents.add("me")
    with RunningServer(tmp_path, AUTH_MODE="off", AUTH_KEYS_DIR=str(agents.public)) as server:
        forged = agent.sign("GET", "/elsewhere") | {"X-Nonce": "x"}
        for _ in range(2):
            assert send(int(server.settings["MACHINES_PORT"]), "GET", FLEET, forged).status == 200
        assert not (server.data / "nonces.db").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AUTH_MODE": "on"}, "AUTH_MODE=on is refused"),
        ({"AUTH_MODE": "enforce"}, "AUTH_MODE=enforce needs AUTH_KEYS_DIR or KEY_SERVER_URL"),
        ({"AUTH_MODE": "observe"}, "AUTH_MODE=observe needs AUTH_KEYS_DIR or KEY_SERVER_URL"),
        (
            {"AUTH_MODE": "enforce", "AUTH_KEYS_DIR": "/", "KEY_SERVER_URL": "http://127.0.0.1:1"},
            "AUTH_KEYS_DIR and KEY_SERVER_URL are both set: keep one of them",
        ),
        ({"AUTH_MODE": "enforce", "AUTH_KEYS_DIR": "/nosuch"}, "AUTH_KEYS_DIR=/nosuch is not a folder"),
        ({"KEY_SERVER_URL": "keys.example.com"}, "KEY_SERVER_URL is refused"),
        ({"KEY_SERVER_URL": "ftp://keys"}, "KEY_SERVER_URL is refused"),
        ({"AUTH_VERIFY_TIMEOUT": "0"}, "AUTH_VERIFY_TIMEOUT=0 is refused"),
    ],
)
def test_what_does_not_fit_together_does_not_start(settings: dict[str, str], said: str) -> None:
    done = command("serve", **settings)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


class _KeyServer(BaseHTTPRequestHandler):
    """A key-server by its description: it knows the agents of a folder."""

    keys: PublicKeys
    status: int | None = None
    asked: list[dict[str, str]]

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(question)
        status, answer = self.status or 200, {"valid": True, "agent_id": question["agent_id"]}
        if self.path != "/keys/api/verify" or self.status == 400:
            status, answer = 400, {"valid": False}
        elif not self.keys.of(question["agent_id"]):
            status, answer = 401, {"valid": False, "reason": "unknown_agent"}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class Asking:
    """A server that asks a key-server, and both."""

    def __init__(self, port: int, agent: Agent, key_server: type[_KeyServer]) -> None:
        self.port, self.agent, self.key_server = port, agent, key_server

    def get(self, name: str | None = None) -> Answer:
        return send(self.port, "GET", FLEET, self.agent.sign("GET", FLEET, name=name))


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    folder = tmp_path_factory.mktemp("asking")
    agents, port = Agents(folder), free_port()
    agent = agents.add("me")

    class Handler(_KeyServer):
        keys, asked = PublicKeys(agents.public), []

    url = f"http://127.0.0.1:{port}/keys/"
    settings = {"AUTH_MODE": "enforce", "KEY_SERVER_URL": url, "AUTH_VERIFY_TIMEOUT": "1"}
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as key_server:
        thread = threading.Thread(target=key_server.serve_forever)
        thread.start()
        try:
            with RunningServer(folder, **settings) as server:
                yield Asking(int(server.settings["MACHINES_PORT"]), agent, Handler)
        finally:
            key_server.shutdown()
            thread.join()


def test_a_key_server_is_asked_in_its_own_words(asking: Asking) -> None:
    asking.key_server.asked.clear()
    headers = asking.agent.sign("GET", FLEET)
    assert send(asking.port, "GET", f"{FLEET}?a=b", headers).status == 200
    (question,) = asking.key_server.asked
    assert question == {
        "agent_id": "me",
        "timestamp": headers["X-Timestamp"],
        "nonce": headers["X-Nonce"],
        "method": "GET",
        "path": FLEET,
        "body_sha256": body_hash(b""),
        "signature": headers["X-Signature"],
    }
    assert send(asking.port, "GET", FLEET, headers).reason == "nonce_replayed"


def test_what_a_key_server_refuses_is_refused(asking: Asking) -> None:
    assert asking.get(name="nobody").reason == "unknown_agent"
    asking.key_server.status = 400
    try:
        assert asking.get().reason == "malformed"
    finally:
        asking.key_server.status = None
    asked = len(asking.key_server.asked)
    assert send(asking.port, "GET", FLEET).reason == "missing_headers"
    assert len(asking.key_server.asked) == asked


def test_a_key_server_that_fails_lets_nobody_in(asking: Asking) -> None:
    asking.key_server.status = 500
    try:
        answer = asking.get()
        assert (answer.status, answer.reason) == (503, "key_server_unreachable")
    finally:
        asking.key_server.status = None
    assert asking.get().status == 200


def test_a_key_server_that_is_away_lets_nobody_in(tmp_path: Path) -> None:
    agent = Agents(tmp_path).add("me")
    url = f"http://127.0.0.1:{free_port()}"
    with RunningServer(tmp_path, AUTH_MODE="enforce", KEY_SERVER_URL=url) as server:
        port = int(server.settings["MACHINES_PORT"])
        answer = send(port, "GET", FLEET, agent.sign("GET", FLEET))
        assert (answer.status, answer.reason) == (503, "key_server_unreachable")
        assert send(port, "GET", "/health").status == 200
