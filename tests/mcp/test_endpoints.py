"""POST /mcp without the SDK's client, the older form of tools, and the cost for those who use neither."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from machines_server.mcp.tools import TOOLS
from tests.auth.agents import send
from tests.fakes import wait_until
from tests.mcp.agents import Entrance
from tests.mcp.conftest import MODEL
from tests.openapi.description import DESCRIPTION
from tests.running import RunningServer, clean_environment, command

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
BOTH = {"Accept": "application/json, text/event-stream"}


def call(server: RunningServer, body: object, **headers: str) -> requests.Response:
    response = requests.post(f"{server.url}/mcp/call", json=body, headers=headers, timeout=20)
    DESCRIPTION.check("POST", "/mcp/call", response)
    return response


def test_the_older_form_lists_and_calls_the_same_tools(open_server: RunningServer) -> None:
    response = open_server.get("/mcp/tools")
    DESCRIPTION.check("GET", "/mcp/tools", response)
    tools = {tool["name"]: tool for tool in response.json()["tools"]}
    assert tools.keys() == TOOLS.keys()
    assert all(tool.keys() == {"name", "description", "inputSchema"} for tool in tools.values())
    found = call(open_server, {"tool": "pick_machine", "args": {"model": MODEL}})
    assert found.json()["result"]["machine"] == "big"
    assert call(open_server, {"tool": "list_machines"}).json()["result"]["total"] == 3


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"tool": "unknown", "args": {}}, 400, "bad_parameter"),
        ({"args": {}}, 400, "bad_parameter"),
        ({"tool": "pick_machine", "args": []}, 400, "bad_parameter"),
        ({"tool": "pick_machine", "args": {"x": 1}}, 400, "bad_parameter"),
        ({"tool": "pick_machine", "args": {"model": "unknown:1b"}}, 503, "no_machine"),
        ({"tool": "get_machine", "args": {"name": "nobody"}}, 404, "unknown_machine"),
        ([], 400, "bad_parameter"),
    ],
)
def test_a_wrong_call_of_the_older_form(
    open_server: RunningServer, body: Any, status: int, code: str
) -> None:
    response = call(open_server, body)
    assert (response.status_code, response.json()["error"]) == (status, code)


def test_the_older_form_needs_a_signature_where_all_requests_do(signed: dict[str, Entrance]) -> None:
    port, agent = int(signed["writer"].url.rpartition(":")[2]), signed["reader"].agent
    assert agent is not None
    body = b'{"tool": "lease_machine", "args": {"model": "llama3.1:70b"}}'
    assert send(port, "POST", "/mcp/call", body=body).status == 401
    assert send(port, "GET", "/mcp/tools").status == 401
    assert send(port, "POST", "/mcp/call", agent.sign("POST", "/mcp/call", body), body).status == 403


def test_guards_stand_before_the_door(open_server: RunningServer) -> None:
    url = f"{open_server.url}/mcp"
    for headers, status in (
        ({"Host": "evil.com"}, 421),
        ({"Origin": "http://evil.com"}, 400),
        ({"Sec-Fetch-Site": "cross-site"}, 400),
    ):
        response = requests.post(url, json=LIST, headers=BOTH | headers, timeout=20)
        assert response.status_code == status, response.text
    assert requests.post(url, data=b"x" * (2**20 + 1), headers=BOTH, timeout=20).status_code == 413
    for method in ("GET", "DELETE", "PUT"):
        response = requests.request(method, url, headers=BOTH, timeout=20)
        assert response.status_code == 405
        assert response.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"jsonrpc": "2.0", "id": 1}', b"\xff", b"[" * 9999]
)
def test_what_is_no_message_is_refused_without_a_stack_trace(open_server: RunningServer, body: bytes) -> None:
    headers = BOTH | {"Content-Type": "application/json"}
    response = requests.post(f"{open_server.url}/mcp", data=body, headers=headers, timeout=20)
    assert 400 <= response.status_code < 500
    assert "Traceback" not in response.text
    assert "Traceback" not in open_server.log.read_text()


WRONG_IDS: list[object] = [None, 1.5, True, {}, [1]]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ([LIST, LIST], "one message per request"),
        ("tools/list", "is not a JSON object"),
        *((LIST | {"id": wrong}, "a string or an integer") for wrong in WRONG_IDS),
    ],
)
def test_what_nobody_would_answer_is_refused_with_the_reason(
    open_server: RunningServer, message: object, said: str
) -> None:
    response = requests.post(f"{open_server.url}/mcp", json=message, headers=BOTH, timeout=20)
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32600)
    assert said in response.json()["error"]["message"]


def test_an_id_is_returned_as_it_came(open_server: RunningServer) -> None:
    for identity in ("", "x" * 9999, 0, -(2**63), 10**300):
        message = {"jsonrpc": "2.0", "id": identity, "method": "ping"}
        response = requests.post(f"{open_server.url}/mcp", json=message, headers=BOTH, timeout=20)
        assert response.json() == {"jsonrpc": "2.0", "id": identity, "result": {}}


@pytest.mark.parametrize("media", ["text/plain", "multipart/form-data; boundary=x", "application/x+json", ""])
def test_another_type_of_body_is_refused_in_json(open_server: RunningServer, media: str) -> None:
    headers = BOTH | {"Content-Type": media}
    response = requests.post(f"{open_server.url}/mcp", data=json.dumps(LIST), headers=headers, timeout=20)
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")
    assert "Content-Type" in response.json()["message"]


def test_types_are_compared_without_case_and_accept_may_be_absent(open_server: RunningServer) -> None:
    headers = {"Content-Type": "Application/JSON; charset=UTF-8", "Accept": None}
    response = requests.post(f"{open_server.url}/mcp", data=json.dumps(LIST), headers=headers, timeout=20)
    assert len(response.json()["result"]["tools"]) == len(TOOLS)


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN"])
def test_a_number_that_is_none_grants_no_lease(open_server: RunningServer, number: str) -> None:
    body = f"""{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
        {{"name": "lease_machine", "arguments": {{"model": "{MODEL}", "ttl_s": {number}}}}}}}"""
    headers = BOTH | {"Content-Type": "application/json"}
    response = requests.post(f"{open_server.url}/mcp", data=body, headers=headers, timeout=20)
    assert "The parameter ttl_s is not a finite number" in response.text


@pytest.mark.parametrize("path", ["/mcp", "/mcp/call"])
def test_who_leaves_while_waiting_for_a_lease_gets_none(open_server: RunningServer, path: str) -> None:
    def leases() -> list[str]:
        return [one["holder"] for one in open_server.get("/api/leases").json()["leases"]]

    held = Entrance(open_server.url).call("lease_machine", model=MODEL, exclusive=True, holder="first")
    arguments = {"model": MODEL, "exclusive": True, "wait_s": 60, "holder": "left"}
    message: dict[str, object] = {"tool": "lease_machine", "args": arguments}
    if path == "/mcp":
        params = {"name": "lease_machine", "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    before = open_server.open_connections()

    def leave(_: int) -> None:
        with pytest.raises(requests.Timeout):
            requests.post(f"{open_server.url}{path}", json=message, headers=BOTH, timeout=2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(8)))
    wait_until(lambda: open_server.open_connections() <= before)
    assert held.structured_content
    requests.delete(f"{open_server.url}/api/leases/{held.structured_content['lease']}", timeout=20)
    last = {"model": MODEL, "exclusive": True, "wait_s": 10, "holder": "last"}
    granted = call(open_server, {"tool": "lease_machine", "args": last}).json()["result"]
    assert leases() == ["last"]
    Entrance(open_server.url).call("release_lease", lease=granted["lease"])


IMPORTED = """
import sys
from machines_server.process.compose import make_asgi
from machines_server.settings import load_settings
make_asgi(load_settings({})[0])
import machines_server.web.tool_endpoints
assert not [name for name in sys.modules if name.partition(".")[0] in ("mcp", "mcp_types", "starlette")]
assert "machines_server.mcp.tools" not in sys.modules
"""


def test_a_worker_that_never_sees_mcp_does_not_import_it(tmp_path: Path) -> None:
    environment = clean_environment(MACHINES_DIR=str(tmp_path), MACHINES_DATA_DIR=str(tmp_path / "var"))
    subprocess.run([sys.executable, "-c", IMPORTED], env=environment, check=True, timeout=60)


def test_without_the_package_the_door_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError('there is no mcp', name='mcp')")
    (tmp_path / "server").mkdir()
    environment = {"PYTHONPATH": str(tmp_path)}
    with RunningServer(tmp_path / "server", **environment) as server:
        response = requests.post(f"{server.url}/mcp", json=LIST, headers=BOTH, timeout=20)
        assert (response.status_code, response.json()["error"]) == (501, "not_installed")
        assert "pip install 'machines-server[mcp]'" in response.json()["message"]
        assert call(server, {"tool": "list_machines"}).json()["result"]["total"] == 0


@pytest.mark.parametrize("package", ["mcp", "mcp_types", "anyio"])
def test_without_the_package_or_one_that_it_needs_the_command_says_what_to_install(
    tmp_path: Path, package: str
) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('there is none', name='{package}')")
    done = command("mcp", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'machines-server[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr


QUESTIONS = [
    ("Which machine should I send a request for this model to?", {"model": MODEL}, "big"),
    ("Choose the best machine for a job that needs much free VRAM", {"min_free_vram_gb": 22}, "small"),
    ("Reserve the memory of a machine for a long job with this model", {"model": MODEL}, "big"),
]
"""What an agent wants, the arguments that it knows, and the machine that it should find."""


def best_tool(question: str, tools: list[dict[str, str]]) -> str:
    """The tool whose description has most of the question's words, relative to how common those are."""

    def words(text: str) -> set[str]:
        return {word.strip(".,:;()?").lower() for word in text.replace("_", " ").split()}

    said = {tool["name"]: words(f"{tool['name']} {tool['description']}") for tool in tools}
    asked = words(question)

    def score(name: str) -> float:
        return sum(1 / sum(word in other for other in said.values()) for word in asked & said[name])

    return max(said, key=score)


@pytest.mark.parametrize(("question", "arguments", "machine"), QUESTIONS)
def test_an_agent_finds_the_right_machine_by_descriptions_alone(
    open_server: RunningServer, question: str, arguments: dict[str, Any], machine: str
) -> None:
    tools = open_server.get("/mcp/tools").json()["tools"]
    found = call(open_server, {"tool": best_tool(question, tools), "args": arguments}).json()["result"]
    assert found["machine"] == machine
    if "lease" in found:
        assert not Entrance(open_server.url).call("release_lease", lease=found["lease"]).is_error


def test_the_tools_for_other_questions_are_found_as_well(open_server: RunningServer) -> None:
    tools = open_server.get("/mcp/tools").json()["tools"]
    for question, name in (
        ("Which machines are online or offline?", "list_machines"),
        ("When did this model leave memory, and what happened before?", "recent_events"),
        ("How hot was the GPU last night, in steps of an hour?", "machine_history"),
        ("Which machines have this model on disk?", "list_models"),
        ("How much CPU has the host of this server itself left?", "get_system_resources"),
    ):
        assert best_tool(question, tools) == name, question
