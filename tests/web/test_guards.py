"""The outermost layer of a running server: names that are not ours, foreign pages, proxies, odd requests."""

import asyncio
import json
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import requests

from machines_server.client import Client
from machines_server.web.guards import HttpOnly, TrustedProxies
from machines_server.web.messages import Receive, Scope, Send
from tests.running import RunningServer
from tests.web import raw
from tests.web.raw import RawAnswer, send

MACHINE = (
    "name: one\nrole: r\nhardware: {}\nnetwork: {hostname: 127.0.0.1, port: 1, sidecar_port: 2}\nmodels: []\n"
)
PUBLIC = "rebound.example.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("guarded")
    settings = {
        "MACHINES_ALLOWED_HOSTS": "listed.example.com,.example.org",
        "MACHINES_TRUSTED_PROXIES": "127.0.0.7",
        "MACHINES_WORKERS": "1",
        "MACHINES_POLL_INTERVAL_S": "5",
    }
    with RunningServer(folder, **settings) as running:
        running.write("one.yaml", MACHINE)
        yield running


def ask(server: RunningServer, *lines: str, body: bytes = b"") -> RawAnswer:
    """Send a request of those lines, the first of which is the request line."""
    length = [f"Content-Length: {len(body)}"] if body else []
    request = "\r\n".join([*lines, *length, "", ""]).encode("latin-1") + body
    return send(server.url, request, is_head=lines[0].startswith("HEAD "))


@pytest.mark.parametrize("path", ["/", "/health", "/api/infrastructure", "/static/app.js", "/nothing"])
def test_a_name_that_is_not_ours_is_not_answered(server: RunningServer, path: str) -> None:
    answer = ask(server, f"GET {path} HTTP/1.1", f"Host: {PUBLIC}:3038")
    assert answer.status == 421
    told = json.loads(answer.body)
    assert told["error"] == "misdirected_request"
    assert "MACHINES_ALLOWED_HOSTS" in told["message"]
    assert PUBLIC in told["message"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:1", "[::1]", "box", "box.lan", "listed.example.com", "a.example.org"]
)
def test_names_that_are_ours_are_answered(server: RunningServer, host: str) -> None:
    assert ask(server, "GET /api/infrastructure HTTP/1.1", f"Host: {host}").status == 200
    assert ask(server, "GET /health HTTP/1.1", f"Host: {host}").status == 200


@pytest.mark.parametrize("host", ["a b", "\xe4.example", "<script>", "x" * 300, "a\x7f", ""])
def test_a_host_that_is_no_name_is_refused_in_printable_words(server: RunningServer, host: str) -> None:
    answer = ask(server, "GET /health HTTP/1.1", f"Host: {host}")
    assert answer.status in (400, 421)
    assert json.loads(answer.body)["message"].isprintable()


def test_a_program_that_says_what_it_is_may_use_any_name(server: RunningServer) -> None:
    assert ask(server, "GET /health HTTP/1.1", f"Host: {PUBLIC}", "Sec-Machines-Client: x/1").status == 200


def test_our_client_is_answered_by_whatever_name_it_asks(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)  # since no resolver knows the name
    assert Client(f"http://{PUBLIC}").ask("/api/machines")["total"] == 1
    with pytest.raises(requests.HTTPError, match="421"):
        requests.get(f"http://{PUBLIC}/api/machines", timeout=60).raise_for_status()


def test_the_name_in_an_absolute_target_counts_before_the_header(server: RunningServer) -> None:
    assert ask(server, f"GET http://{PUBLIC}/health HTTP/1.1", "Host: 127.0.0.1").status == 421
    answer = ask(server, "GET http://127.0.0.1/api/machines HTTP/1.1", f"Host: {PUBLIC}")
    assert answer.status == 200
    assert json.loads(answer.body)["total"] == 1
    for target in ("ftp://127.0.0.1/health", "health", "127.0.0.1/health"):
        assert ask(server, f"GET {target} HTTP/1.1", "Host: 127.0.0.1").status == 400


def test_two_hosts_or_none_are_no_request(server: RunningServer) -> None:
    assert ask(server, "GET /health HTTP/1.1", "Host: 127.0.0.1", f"Host: {PUBLIC}").status == 400
    assert ask(server, "GET /health HTTP/1.1").status == 400
    assert ask(server, "GET /health HTTP/1.0").status == 200


@pytest.mark.parametrize(
    "header",
    [
        "Origin: http://elsewhere.example",
        "Origin: null",
        "Origin: http://[localhost",
        "Origin: http://127.0.0.1:9",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/leases"), ("DELETE", "/api/leases/x"), ("PUT", "/")]
)
def test_what_a_page_of_another_site_sends_changes_nothing(
    server: RunningServer, method: str, path: str, header: str
) -> None:
    answer = ask(server, f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", header, body=b"{}")
    assert answer.status == 400
    assert "another site" in json.loads(answer.body)["message"]
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_page_and_programs_may_change_something(server: RunningServer) -> None:
    for headers in ({"Origin": server.url, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        answer = requests.post(f"{server.url}/api/leases", json={"model": "m"}, headers=headers, timeout=60)
        assert answer.json()["error"] == "no_machine"


def test_what_a_proxy_says_counts_only_from_one_that_is_trusted(server: RunningServer) -> None:
    said = {"X-Forwarded-Host": PUBLIC, "X-Forwarded-Prefix": "/fleet", "X-Forwarded-For": "192.0.2.1"}
    assert requests.get(f"{server.url}/health", headers=said, timeout=60).status_code == 200
    with requests.Session() as session:
        session.mount("http://", _From("127.0.0.7"))
        assert session.get(f"{server.url}/health", headers=said, timeout=5).status_code == 421
        said["X-Forwarded-Host"] = "listed.example.com"
        assert session.get(f"{server.url}/health", headers=said, timeout=5).status_code == 200
        assert session.get(f"{server.url}/api/machines", headers=said, timeout=5).status_code == 200
        foreign = said | {"Origin": "http://127.0.0.1"}
        assert (
            session.post(f"{server.url}/api/leases", json={}, headers=foreign, timeout=5).status_code == 400
        )


def test_of_names_that_several_say_only_that_of_our_own_proxy_counts(server: RunningServer) -> None:
    with requests.Session() as session:
        session.mount("http://", _From("127.0.0.7"))
        said = {"X-Forwarded-Host": f"localhost, {PUBLIC}"}
        assert session.get(f"{server.url}/health", headers=said, timeout=5).status_code == 421
        said = {"X-Forwarded-Host": f"{PUBLIC}, localhost"}
        assert session.get(f"{server.url}/health", headers=said, timeout=5).status_code == 200


def test_each_proxy_may_name_its_client_on_a_line_of_its_own() -> None:
    asked: list[Scope] = []

    async def application(scope: Scope, _receive: Receive, _send: Send) -> None:
        asked.append(scope)

    proxies = ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")
    guard: Any = HttpOnly(TrustedProxies(application, proxies))
    for peer, *lines in (
        ("127.0.0.7", b"192.0.2.1", b"198.51.100.2, 10.0.0.1"),
        ("::ffff:127.0.0.7", b"::ffff:198.51.100.2, 127.0.0.8"),
        ("10.0.0.3", b"", b"198.51.100.2"),
    ):
        headers = [(b"host", b"localhost"), *((b"x-forwarded-for", line) for line in lines)]
        scope = {"type": "http", "method": "GET", "http_version": "1.1", "raw_path": b"/", "path": "/"}
        asyncio.run(guard(scope | {"headers": headers, "client": (peer, 1)}, None, None))
    assert [scope["client"] for scope in asked] == 3 * [("198.51.100.2", 0)]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")
def test_a_proxy_is_known_by_its_address_of_ipv4_when_we_listen_on_ipv6(tmp_path: Path) -> None:
    settings = {"MACHINES_HOST": "::", "MACHINES_TRUSTED_PROXIES": "127.0.0.1"}
    with RunningServer(tmp_path, **settings, MACHINES_MAX_CONNECTIONS_PER_ADDRESS="1") as server:
        said = {"X-Forwarded-Host": PUBLIC}
        assert requests.get(f"{server.url}/health", headers=said, timeout=60).status_code == 421
        with raw.connect(server.url) as first, raw.connect(server.url) as second:
            for connection in (first, second):
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert raw.read(connection).status == 200
            first.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert raw.read(first).status == 200  # it was not ended for the second


class _From(requests.adapters.HTTPAdapter):
    """Connects from an address of our own choice."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *given: object, **named: object) -> None:
        super().init_poolmanager(*given, source_address=(self._address, 0), **named)  # type: ignore[arg-type]  # as its stubs have it


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: a\xffb\r\n\r\n",
        b"POST /api/leases HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/leases HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n"
        + b"".join(b"X-%d: y\r\n" % number for number in range(300))
        + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_an_error_in_json_and_our_own_words(
    server: RunningServer, request_bytes: bytes
) -> None:
    answer = send(server.url, request_bytes)
    assert answer.status in (400, 404, 414, 431, 501)
    told = json.loads(answer.body)
    assert set(told) == {"error", "message"}
    assert told["message"].isprintable()


def test_a_websocket_is_refused(server: RunningServer) -> None:
    answer = ask(
        server,
        "GET /mcp HTTP/1.1",
        "Host: a",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert answer.status == 403
