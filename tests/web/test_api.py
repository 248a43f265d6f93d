"""HTTP as clients rely on it: status codes, headers, JSON whatever happens; over the real application."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from ruamel.yaml import YAML
from werkzeug.test import TestResponse

from machines_server.core.sample import Cycle, HostSample, PollResult, RuntimeState, State
from machines_server.core.times import rfc3339
from machines_server.inventory.folder import RegistryFiles
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention
from tests.fakes import wait_until

FILE = """
name: one
role: r
hardware: {}
network: {hostname: 127.0.0.1, site: warsaw}
models: []
status: mine
zoo: [1, {deep: ~}]
"""


@pytest.fixture
def machines(tmp_path: Path) -> Path:
    folder = tmp_path / "machines"
    folder.mkdir()
    (folder / "one.yaml").write_text(FILE)
    return folder


@pytest.fixture
def client(tmp_path: Path, machines: Path) -> FlaskClient:
    settings, _ = load_settings({"MACHINES_DIR": str(machines), "MACHINES_DATA_DIR": str(tmp_path / "var")})
    return make_app(settings).test_client()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SampleWriter]:
    path = tmp_path / "var" / "telemetry.db"
    migrate(path)
    connection = open_writer(path)
    yield SampleWriter(connection, 12, Rollups(connection, Retention(1e6, 1e7, 1e8)))
    connection.close()


def body(client: FlaskClient, path: str) -> Any:
    response = client.get(path)
    assert response.mimetype == "application/json"
    return json.loads(response.data)


def test_machines_shows_the_files_as_declared(client: FlaskClient, machines: Path) -> None:
    answer = body(client, "/api/machines")
    (one,) = answer["machines"]
    assert list(one) == ["name", "role", "hardware", "network", "models", "status", "zoo", "_config_file"]
    assert (one["status"], one["zoo"], one["_config_file"]) == ("mine", [1, {"deep": None}], "one.yaml")
    assert answer["total"] == 1
    assert answer["config_dir"] == str(machines)
    (warning,) = answer["errors"]
    assert (warning["file"], warning["line"], warning["key"]) == ("one.yaml", 7, "status")
    assert warning["severity"] == "warning"


def test_infrastructure_shows_the_live_keys_over_the_declared_ones(client: FlaskClient) -> None:
    answer = body(client, "/api/infrastructure")
    (one,) = answer["machines"]
    assert one["status"] == "unknown"
    assert one["network"]["site"] == "warsaw"
    assert (one["telemetry"], one["loaded_models"]) == ({}, [])
    assert (one["sampled_at"], one["last_seen"]) == (None, None)
    assert answer["poller"]["state"] == "stopped"
    assert body(client, "/api/machines/one") == one
    assert body(client, "/api/machines/ONE") == one


def test_without_a_database_everything_is_unknown_and_health_says_why(client: FlaskClient) -> None:
    health = body(client, "/health")
    assert (health["status"], health["service"]) == ("ok", "machines-server")
    assert health["poller"]["state"] == "stopped"
    assert health["store"]["state"] == "error"
    assert client.get("/health/ready").status_code == 503


def test_an_unchanged_answer_is_304_and_a_changed_one_is_not(
    client: FlaskClient, machines: Path, writer: SampleWriter
) -> None:
    writer.write([])
    for path in ("/api/machines", "/api/infrastructure", "/api/machines/one"):
        tag = client.get(path).headers["ETag"]
        again = client.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b"")
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    tag = client.get("/api/infrastructure").headers["ETag"]
    (machines / "two.yaml").write_text(FILE.replace("one", "two"))
    assert client.get("/api/infrastructure", headers={"If-None-Match": tag}).status_code == 200


def test_the_content_keeps_its_stamp_until_it_changes(client: FlaskClient, machines: Path) -> None:
    before = body(client, "/api/infrastructure")["generated_at"]
    assert body(client, "/api/infrastructure")["generated_at"] == before
    wait_until(lambda: rfc3339(time.time()) > before)  # stamps are to the millisecond
    (machines / "two.yaml").write_text(FILE.replace("one", "two"))
    assert body(client, "/api/infrastructure")["generated_at"] > before


def test_what_is_written_is_seen_by_the_next_request(client: FlaskClient, writer: SampleWriter) -> None:
    now = time.time()
    assert body(client, "/api/infrastructure")["machines"][0]["status"] == "unknown"
    folder = Path(body(client, "/api/machines")["config_dir"])
    registry = RegistryFiles(folder).current(now)
    machine = registry.machines[0]
    answer = RuntimeState(host=HostSample(cpu_percent=0.0))
    result = PollResult("one", machine.endpoints["sidecar"], State.OK, now, 0.01, None, answer)
    writer.write([registry, result, Cycle(now, now, 5, 2)])
    (one,) = body(client, "/api/infrastructure")["machines"]
    assert one["status"] == "online"
    assert (one["telemetry"]["cpu_percent"], one["telemetry"]["ram_used_gb"]) == (0.0, None)
    assert one["ollama"]["state"] is None


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/api/machines/", 404, "not_found"),
        ("GET", "/api/machines/two", 404, "unknown_machine"),
        ("GET", "/api/machines/%00%ff", 404, "unknown_machine"),
        ("GET", "/api/machines/two/file", 404, "unknown_machine"),
        ("POST", "/api/machines", 405, "method_not_allowed"),
        ("DELETE", "/api/machines/one", 405, "method_not_allowed"),
    ],
)
def test_errors_are_json(client: FlaskClient, method: str, path: str, status: int, code: str) -> None:
    response = client.open(path, method=method)
    answer = json.loads(response.data)
    assert (response.status_code, answer["error"]) == (status, code)
    assert answer["message"]
    if status == 405:
        assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize(
    "path", ["/api/infrastructure", "/api/machines?x=1", "/health", "/nothing", "/api/models"]
)
def test_no_browser_may_guess_that_an_answer_is_html(client: FlaskClient, path: str) -> None:
    assert client.get(path).headers.getlist("X-Content-Type-Options") == ["nosniff"]


def test_head_and_options_are_answered_without_a_body(client: FlaskClient) -> None:
    head = client.head("/api/infrastructure")
    assert (head.status_code, head.data) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(client.get("/api/infrastructure").data)
    options = client.options("/api/infrastructure")
    assert options.status_code == 200
    assert set(options.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert options.mimetype != "text/html"


def test_unknown_query_parameters_are_ignored(client: FlaskClient) -> None:
    assert body(client, "/api/machines?what=ever&what=else") == body(client, "/api/machines")


def test_system_is_the_machine_of_the_server(client: FlaskClient) -> None:
    answer = body(client, "/api/system")
    assert answer["ram_total_gb"] > 0
    assert answer["hostname"]
    assert answer["timestamp"].endswith("Z")
    assert 0 <= answer["cpu_percent"] <= 100


@pytest.mark.parametrize("path", ["/api/infrastructure", "/api/machines"])
def test_a_ready_answer_is_the_one_that_the_view_gives(client: FlaskClient, path: str) -> None:
    ready, viewed = client.get(path), client.get(f"{path}?anything")
    assert ready.data == viewed.data
    assert _headers(ready) == _headers(viewed)
    etag = ready.headers["ETag"]
    for known, status in ((etag, 304), (f'"other", {etag}', 304), ('"other"', 200)):
        again = [client.get(one, headers={"If-None-Match": known}) for one in (path, f"{path}?anything")]
        assert [one.status_code for one in again] == [status, status]
        assert _headers(again[0]) == _headers(again[1])
    assert client.head(path).headers["Content-Length"] == ready.headers["Content-Length"]
    for more in ({}, {"If-None-Match": 'W/"older"'}):
        packed = client.get(path, headers={"Accept-Encoding": "gzip, deflate"} | more)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.data) == ready.data
    assert "Content-Encoding" not in client.get(path, headers={"Accept-Encoding": "gzip;q=0"}).headers
    assert client.post(path).status_code == 405


def _headers(response: TestResponse) -> dict[str, str]:
    """Without the date, which the server that runs the application adds."""
    return {name: value for name, value in response.headers if name != "Date"}


ODD_FILE = r"""
zoo: {last: [1, {deep: ~}, [[2], []]], first: 1.5e300}
name: one
role: '<img src=x onerror=alert(1)>'
hardware: {}
network: {hostname: 127.0.0.1, site: Łódź 東京 😀}
models: []
dates: [2026-11-25, '2026-11-25', 2026-11-25T08:30:00Z]
texts: ['1', '1.0', '0x10', 'true', 'null', '~', 'yes', 'NO', '', ' ', '- a', 'a: b', '#', '<<', '=', '@']
numbers: [1, 1.0, -0.5, 123456789012345678901234567890, 1e400]
truths: [true, false, null]
breaks: "one\ntwo\t\r \x85 \u2028 \0 \ufeff "
same: &same {a: [b]}
again: *same
"1": "a text that is longer than any line should be, so that whoever writes it may want to break it
  somewhere in it"
"""


def test_the_file_in_force_says_as_yaml_what_it_declares(client: FlaskClient, machines: Path) -> None:
    (machines / "one.yaml").write_text(ODD_FILE)
    (declared,) = body(client, "/api/machines")["machines"]
    del declared["_config_file"]
    response = client.get("/api/machines/ONE/file")
    assert (response.status_code, response.headers["Content-Type"]) == (
        200,
        "application/yaml; charset=utf-8",
    )
    text = response.data.decode()
    assert "Łódź 東京" in text
    assert "<img src=x onerror=alert(1)>" in text
    found = YAML(typ="safe", pure=True).load(text)
    assert json.dumps(found) == json.dumps(declared)  # with the order of the keys, and 1 is not true
    (machines / "one.yaml").write_text(text)
    (again,) = body(client, "/api/machines")["machines"]
    assert json.dumps(again) == json.dumps({**declared, "_config_file": "one.yaml"})


def test_the_file_in_force_is_the_last_good_one(client: FlaskClient, machines: Path) -> None:
    before = client.get("/api/machines/one/file").data
    assert YAML(typ="safe", pure=True).load(before)["zoo"] == [1, {"deep": None}]
    (machines / "one.yaml").write_text("name: [")
    assert body(client, "/api/machines")["errors"]
    assert client.get("/api/machines/one/file").data == before
