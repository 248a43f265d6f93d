"""Who may take, renew and end leases."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.auth.agents import Agent, Agents, send
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer

LLAMA = "llama3.1:70b"
LEASES = "/api/leases"


class Shared:
    """A server with one machine that holds LLAMA, and its agents."""

    def __init__(self, server: RunningServer, agents: Mapping[str, Agent]) -> None:
        self.port, self.agents = int(server.settings["MACHINES_PORT"]), agents

    def ask(self, agent: str | None, method: str, target: str, **body: Any) -> tuple[int, Any]:
        content = msgspec.json.encode(body) if body else b""
        headers = self.agents[agent].sign(method, target, content) if agent else {}
        answer = send(self.port, method, target, headers, content)
        return answer.status, msgspec.json.decode(answer.body)

    def lease(self, agent: str | None) -> str:
        status, body = self.ask(agent, "POST", LEASES, model=LLAMA)
        assert status == 201, body
        return str(body["lease"])


@pytest.fixture(scope="module", params=["off", "observe", "enforce"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def observed(mode: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(mode) / "observed.log"


@pytest.fixture(scope="module")
def shared(mode: str, observed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    agents = Agents(folder)
    known = {name: agents.add(name) for name in ("ann", "bob", "eve", "boss")}
    settings = {
        "AUTH_MODE": mode,
        "AUTH_KEYS_DIR": str(agents.public),
        "AUTH_WRITERS": "ann, bob",
        "AUTH_ADMINS": "boss",
        "AUTH_OBSERVE_LOG": str(observed),
    }
    with FakeFleet() as fakes, RunningServer(folder, **settings) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(LLAMA)))
        shared = Shared(server, known)
        wait_until(lambda: shared.ask("ann", "GET", f"/api/route?model={LLAMA}")[0] == 200)
        yield shared


def test_an_agent_changes_its_own_leases_alone(shared: Shared, mode: str) -> None:
    lease = shared.lease("ann")
    status, body = shared.ask("bob", "POST", f"{LEASES}/{lease}/renew", ttl_s=60)
    if mode == "enforce":
        assert (status, body["error"]) == (403, "forbidden")
        assert body["message"].startswith("The agent 'bob' may not change a lease that it has not taken")
        assert shared.ask("bob", "DELETE", f"{LEASES}/{lease}")[0] == 403
        assert shared.ask("ann", "GET", f"{LEASES}/{lease}")[1]["agent"] == "ann"
    else:
        assert status == 200
    assert shared.ask("ann", "POST", f"{LEASES}/{lease}/renew", ttl_s=60)[0] == 200
    assert shared.ask("ann", "DELETE", f"{LEASES}/{lease}")[0] == 200


def test_an_admin_ends_any_lease(shared: Shared) -> None:
    lease = shared.lease("ann")
    assert shared.ask("boss", "POST", f"{LEASES}/{lease}/renew", ttl_s=60)[0] == 200
    assert shared.ask("boss", "DELETE", f"{LEASES}/{lease}")[0] == 200


def test_only_writers_take_leases(shared: Shared, mode: str) -> None:
    status, body = shared.ask("eve", "POST", LEASES, model=LLAMA)
    if mode == "enforce":
        assert (status, body["error"]) == (403, "forbidden")
        assert shared.ask("eve", "GET", LEASES)[0] == 200
    else:
        assert status == 201
        assert shared.ask("eve", "DELETE", f"{LEASES}/{body['lease']}")[0] == 200


def test_a_key_of_one_agent_gets_no_other_its_lease(shared: Shared, mode: str) -> None:
    content = msgspec.json.encode({"model": LLAMA})

    def post(agent: str) -> int:
        headers = shared.agents[agent].sign("POST", LEASES, content) | {"Idempotency-Key": "k"}
        return send(shared.port, "POST", LEASES, headers, content).status

    assert [post("ann"), post("ann"), post("bob")] == [201, 201, 409 if mode != "off" else 201]


def test_what_would_be_forbidden_is_written(shared: Shared, mode: str, observed: Path) -> None:
    lease = shared.lease("ann")
    shared.ask("bob", "DELETE", f"{LEASES}/{lease}")
    written = observed.read_text() if observed.exists() else ""
    if mode == "observe":
        line = msgspec.json.decode(written.splitlines()[-1])
        del line["ts"]
        assert line == {
            "event": "would_reject",
            "method": "DELETE",
            "path": f"{LEASES}/{lease}",
            "reason": "forbidden",
            "agent_id": "bob",
        }
    else:
        assert written == ""


def test_off_knows_no_agents(shared: Shared, mode: str) -> None:
    if mode == "off":
        lease = shared.lease(None)
        assert "agent" not in shared.ask(None, "GET", f"{LEASES}/{lease}")[1]
        assert shared.ask(None, "DELETE", f"{LEASES}/{lease}")[0] == 200
    else:
        assert shared.ask("ann", "GET", LEASES)[0] == 200
