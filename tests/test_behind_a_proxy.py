"""An Ollama behind a real nginx with TLS, a path and a secret: polled, shown, advised and leased."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from machines_server.client import Client
from tests.certificates import authority
from tests.credentials.folders import put
from tests.fakes import FakeEndpoint, FakeFleet, wait_until
from tests.nginx import TlsProxy, get
from tests.readme import page
from tests.running import RunningServer, clean_environment, command, wait_for_status

LLAMA = "llama3.1:70b"
TOKEN, PASSWORD = "t0ken-of-the-proxy", "ann:p4ssword-of-the-proxy"
BASIC = f"Basic {b64encode(PASSWORD.encode()).decode()}"


class Site(NamedTuple):
    """A server, and a proxy elsewhere with two Ollamas: /one wants a token, /two a password."""

    server: RunningServer
    proxy: TlsProxy
    authority: Path
    ollama: FakeEndpoint
    credentials: Path
    authorities: Path

    def declare(self, name: str, prefix: str, **network: Any) -> None:
        """Drop the file of a machine behind the proxy."""
        keys = {
            "hostname": "127.0.0.1",
            "port": self.proxy.port,
            "sidecar": False,
            "scheme": "https",
            "path": prefix,
            "ca": "site.pem",
        }
        text = {"name": name, "role": "test", "hardware": {}, "network": keys | network, "models": [LLAMA]}
        self.server.write(f"{name}.yaml", json.dumps(text))

    def ollama_of(self, name: str) -> dict[str, Any]:
        """What the API says of the Ollama of a machine."""
        found: dict[str, Any] = self.server.fleet()[name]["ollama"]
        return found

    def errors(self) -> list[tuple[str, str, str]]:
        """The file, the key and the message of each problem."""
        found = self.server.get("/api/machines").json()["errors"]
        return [(one["file"], one["key"], one["message"]) for one in found]


@pytest.fixture
def site(tmp_path: Path, fakes: FakeFleet) -> Iterator[Site]:
    ollama, other = fakes.ollama(LLAMA), fakes.ollama()
    trusted = authority(tmp_path / "authority")
    places = {"/one": (ollama.url().rstrip("/"), f"Bearer {TOKEN}"), "/two": (other.url().rstrip("/"), BASIC)}
    credentials, authorities = tmp_path / "credentials", tmp_path / "authorities"
    credentials.mkdir(mode=0o700)
    authorities.mkdir(mode=0o700)
    put(authorities, trusted.read_text(), name="site.pem")
    settings = {"MACHINES_CREDENTIALS_DIR": str(credentials), "MACHINES_CA_DIR": str(authorities)}
    with (
        TlsProxy(tmp_path / "nginx", trusted, places) as proxy,
        RunningServer(tmp_path, **settings, MACHINES_POLL_TIMEOUT_S="0.9") as server,
    ):
        yield Site(server, proxy, trusted, ollama, credentials, authorities)


def test_it_is_polled_with_its_own_secret_and_an_agent_knows_where_and_with_which_to_ask(site: Site) -> None:
    put(site.credentials, f"{TOKEN}\n", name="one-token")
    put(site.credentials, f"{PASSWORD}\n", name="two-password")
    site.declare("one", "/one", credential="one-token")
    site.declare("two", "/two/", credential="two-password")
    assert wait_for_status(site.server, "one", "online")["loaded_models"] == [LLAMA]
    assert wait_for_status(site.server, "two", "online")["loaded_models"] == []
    wait_until(lambda: any("/one/api/tags" in line for line in site.proxy.asked()))
    for line in site.proxy.asked():
        assert line.startswith("TLSv1.")
        assert f"Bearer {TOKEN}" in line if "/one/" in line else BASIC in line
    assert not [request for request in site.ollama.requests if b"uthorization" in request]

    url = site.proxy.url("/one")
    route = site.server.get("/api/route", params={"model": LLAMA}).json()
    assert (route["url"], route["credential"]) == (url, "one-token")
    assert (route["candidates"][0]["url"], route["candidates"][0]["credential"]) == (url, "one-token")
    client = Client(site.server.url)
    picked = client.pick(LLAMA)
    assert (picked.url, picked.credential, picked.candidates[0].credential) == (url, "one-token", "one-token")
    with client.lease(LLAMA) as lease:
        assert (lease.url, lease.credential) == (url, "one-token")
        (held,) = client.leases().leases
        assert (held.url, held.credential, held.broken) == (url, "one-token", None)
        # The agent has the same secret by another way, and asks there as it was told.
        answer = get(f"{lease.url}/api/ps", site.authority, f"Bearer {TOKEN}")
        assert answer.json()["models"][0]["model"] == LLAMA
        site.declare("one", "/two", credential="two-password")
        wait_until(lambda: client.leases().leases[0].broken == "its address was changed")


def test_the_command_gets_the_whole_url(site: Site) -> None:
    put(site.credentials, TOKEN, name="one-token")
    site.declare("one", "/one", credential="one-token")
    wait_for_status(site.server, "one", "online")
    url = site.proxy.url("/one")
    done = command("pick", LLAMA, MACHINES_URL=site.server.url)
    assert (done.stdout, done.stderr) == (f"{url}\n", "")
    script = 'echo "$OLLAMA_HOST $MACHINES_CREDENTIAL"'
    done = command("pick", LLAMA, "--lease", "--", "sh", "-c", script, MACHINES_URL=site.server.url)
    assert done.stdout == f"{url} one-token\n"


def test_a_wrong_secret_is_told_and_a_new_one_is_used_at_the_next_poll(site: Site) -> None:
    put(site.credentials, "an-0ld-token", name="one-token")
    site.declare("one", "/one", credential="one-token")
    found = wait_for_status(site.server, "one", "offline")
    assert found["status_reason"] == "ollama: HTTP status 401"
    message = found["ollama"]["message"]
    assert (
        message
        == "HTTP status 401: it does not accept the content of the credential one-token: replace that file"
    )
    put(site.credentials, TOKEN, name="one-token")
    wait_for_status(site.server, "one", "online", 5)
    site.declare("one", "/one")
    found = wait_for_status(site.server, "one", "offline")
    assert "name that as network.credential in one.yaml" in found["ollama"]["message"]


def test_a_secret_that_cannot_be_used_is_our_own_fault_and_no_request_is_made(site: Site) -> None:
    site.declare("one", "/one", credential="one-token")
    asked = "skipped, since the credential one-token cannot be used: "
    missing = f"{asked}there is no such file"
    found = wait_for_status(site.server, "one", "unknown")
    wait_until(lambda: site.server.fleet()["one"]["status_reason"] == f"ollama: {missing}")
    found = site.ollama_of("one")
    assert found["state"] is None
    assert str(site.credentials / "one-token") in found["message"]
    assert site.errors() == [("one.yaml", "network.credential", missing)]
    put(site.credentials, TOKEN, 0o640, name="one-token")
    wait_until(lambda: "its mode is 0640" in str(site.server.fleet()["one"]["status_reason"]))
    wait_until(lambda: "its mode is 0640" in str(site.errors()))
    assert site.proxy.asked() == []
    health = site.server.get("/health/ready").json()
    assert (health["status"], health["poller"]["message"]) == ("ok", None)
    (site.credentials / "one-token").chmod(0o600)
    wait_for_status(site.server, "one", "online", 5)
    wait_until(lambda: site.errors() == [])
    (site.credentials / "one-token").unlink()
    wait_for_status(site.server, "one", "unknown", 5)
    types = [event["type"] for event in site.server.get("/api/events").json()["events"]]
    assert "offline" not in types


def test_a_replaced_authority_counts_at_once(site: Site, tmp_path: Path) -> None:
    put(site.credentials, TOKEN, name="one-token")
    site.declare("one", "/one", credential="one-token")
    wait_for_status(site.server, "one", "online")
    put(site.authorities, authority(tmp_path / "other").read_text(), name="site.pem")
    found = wait_for_status(site.server, "one", "offline", 5)
    reason = "its certificate is not issued by a CA that is trusted here"
    assert found["status_reason"] == f"ollama: {reason}"
    assert "is not in site.pem in MACHINES_CA_DIR" in found["ollama"]["message"]
    put(site.authorities, site.authority.read_text(), name="site.pem")
    wait_for_status(site.server, "one", "online", 5)


def test_the_configuration_of_the_docs_lets_in_who_has_the_token_and_nobody_else(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    ollama, trusted = fakes.ollama(LLAMA), authority(tmp_path / "authority")
    (server,) = re.findall(r"```nginx\n(.*?)```", page("proxies.md"), re.DOTALL)
    server = server.replace("{", "{{").replace("}", "}}")
    for shown, used in (
        ("listen 443 ssl", "listen 127.0.0.1:{port} ssl"),
        ("/etc/nginx/gpu.pem", "{certificate}"),
        ("/etc/nginx/gpu.key", "{key}"),
        ("http://127.0.0.1:11434/", ollama.url()),
        ("REPLACE-ME", TOKEN),
    ):
        assert shown in server
        server = server.replace(shown, used)
    with TlsProxy(tmp_path / "nginx", trusted, {}, server) as proxy:
        url = proxy.url("/ollama/api/ps")
        assert get(url, trusted, f"Bearer {TOKEN}").json()["models"][0]["model"] == LLAMA
        (request,) = ollama.requests
        assert request.startswith(b"GET /api/ps HTTP/1.")
        assert b"\r\nHost: localhost:11434\r\n" in request
        assert b"uthorization" not in request
        for authorization in ("", f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}"):
            assert get(url, trusted, authorization).status_code == 401
        assert get(proxy.url("/api/ps"), trusted, f"Bearer {TOKEN}").status_code == 404
        assert len(ollama.requests) == 1


DOORS = [
    *("/", "/machines/one", "/models", "/events", "/leases", "/metrics", "/health", "/health/ready"),
    *("/openapi.json", "/docs", "/api/machines", "/api/infrastructure", "/api/machines/one"),
    *("/api/machines/one/file", "/api/models", "/api/leases", "/api/events", "/api/system", "/api/services"),
    *("/api/machines/one/history?metric=up,poll_s", "/api/machines/one/availability"),
    *("/api/route?model=llama3.1:70b", "/api/route?model=llama3.1:70b&cold=true&explain=true"),
    *("/api/route?where=network.credential:one-token", "/api/route?model=no-such-model"),
]


def test_no_secret_is_in_anything_that_the_server_emits(site: Site, tmp_path: Path) -> None:
    """All secrets are in use, in every state that a credential may have."""
    secrets = {TOKEN, PASSWORD, PASSWORD.partition(":")[2], BASIC.partition(" ")[2]}
    wrong, spaced, open_, control = "wr0ng-token", "sp4ced token", "0pen-token", "c0ntrol\x07token"
    secrets |= {wrong, spaced, open_, "c0ntrol", "0utside-token"}
    for name, content, mode in (
        ("one-token", TOKEN, 0o600),
        ("two-password", PASSWORD, 0o600),
        ("wrong", wrong, 0o600),
        ("spaced", spaced, 0o600),
        ("open", open_, 0o644),
        ("control", control, 0o600),
    ):
        put(site.credentials, content, mode, name=name)
    put(tmp_path, "0utside-token", name="outside")
    (site.credentials / "link").symlink_to("../outside")
    (site.authorities / "bad.pem").write_text("wr0ng-token")
    settings = dict(site.server.settings)
    site.server.__exit__()
    with RunningServer(tmp_path, **settings | {"MACHINES_LOG_LEVEL": "debug"}) as server:
        here = site._replace(server=server)
        here.declare("one", "/one", credential="one-token")
        here.declare("two", "/two", credential="two-password")
        here.declare("bad", "/one", credential="wrong", ca="bad.pem")
        for name in ("wrong", "spaced", "open", "control", "link", "missing"):
            here.declare(name, "/one", credential=name)
        for name, status in (("one", "online"), ("two", "online"), ("wrong", "offline"), ("link", "unknown")):
            wait_for_status(server, name, status)
        wait_until(lambda: len(here.errors()) >= 6)
        client = Client(server.url)
        with client.lease(LLAMA):
            emitted = {path: _answer(server, path) for path in DOORS}
            emitted["lease"] = repr(client.leases()).encode()
            for pid in _family(server.process.pid):
                for part in ("cmdline", "environ"):
                    emitted[f"/proc/{pid}/{part}"] = Path(f"/proc/{pid}/{part}").read_bytes()
        emitted["none"] = server.post("/api/leases", {"model": "no-such-model", "holder": "me"}).content
        emitted["doctor"] = _doctor(server.settings)
        emitted["doctor of the server"] = _doctor({"MACHINES_URL": server.url}, "--server", server.url)
        for words in (
            ["list"],
            ["ps"],
            ["show", "one"],
            ["pick", LLAMA, "--explain"],
            ["leases"],
            ["events"],
        ):
            done = command(*words, MACHINES_URL=server.url)
            emitted[" ".join(words)] = (done.stdout + done.stderr).encode()
    emitted["validate"] = command("validate", str(server.machines)).stdout.encode()
    for path in [server.log, *(file for file in server.data.rglob("*") if file.is_file())]:
        emitted[path.name] = path.read_bytes()
    assert b"one-token" in emitted["/api/machines"]  # names are no secrets
    assert len(emitted["telemetry.db"]) > 10_000
    assert b"its mode is 0644" in emitted["doctor"]
    told = [
        (where, secret) for where, said in emitted.items() for secret in secrets if secret.encode() in said
    ]
    assert told == []


def _answer(server: RunningServer, path: str) -> bytes:
    answer = server.get(path)
    return str(answer.headers).encode() + answer.content


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def _doctor(settings: dict[str, str], *words: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "machines_server", "doctor", *words],
        env=clean_environment(**settings),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr
