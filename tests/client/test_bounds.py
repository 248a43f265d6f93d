"""What an untrusted server can do to the client and the command line: little."""

import asyncio
import gzip
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from machines_server.client import MAX_ANSWER_BYTES, Client, ClientError, NoMachine, Rejection
from machines_server.core.text import printable
from sidecar.logs import LineFormatter
from tests.bodies import http
from tests.core.characters import ACTING
from tests.fakes import FakeEndpoint, FakeFleet
from tests.running import clean_environment, command

NASTY = "\x1b[2Jbox\x9b31m\nforged  online\r\x07\u202e\u2028"


def answering(
    fakes: FakeFleet, body: object, status: str = "200 OK", address: str = "127.0.0.1"
) -> FakeEndpoint:
    return fakes.listen(http(json.dumps(body).encode(), status), address)


def is_quiet(text: str) -> bool:
    """Whether nothing in a text acts on a terminal but the ends of its lines."""
    return not set(text) & set(ACTING) - {"\n"}


def test_an_answer_beyond_the_limit_is_not_read_to_its_end(fakes: FakeFleet) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        while True:
            writer.write(part)
            await writer.drain()
            sent += 2**20

    client = Client(fakes.scripted(endless).url(""))
    with pytest.raises(ClientError, match="more than 64 MiB"):
        client.text("/")
    assert sent < 2 * MAX_ANSWER_BYTES


def test_an_answer_that_says_it_is_short_and_is_not_is_no_way_around(fakes: FakeFleet) -> None:
    packed = gzip.compress(b" " * (MAX_ANSWER_BYTES + 1), 9)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    with pytest.raises(ClientError, match="more than 64 MiB"):
        Client(fakes.listen(head.encode() + packed).url("")).leases()


def test_a_long_answer_within_the_limit_is_read(fakes: FakeFleet) -> None:
    leases = [{"lease": "x" * 1000}] * 5000
    assert Client(answering(fakes, {"leases": leases}).url("")).ask("/") == {"leases": leases}


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_a_redirect_is_not_followed(fakes: FakeFleet, status: str) -> None:
    other = answering(fakes, {"leases": []})
    head = f"HTTP/1.1 {status}\r\nLocation: {other.url()}\r\nContent-Length: 0\r\n\r\n"
    server = fakes.listen(head.encode())
    with pytest.raises(ClientError, match="which is not followed"):
        Client(server.url("")).leases()
    done = command("list", "--server", server.url(""))
    assert done.returncode == 1
    assert other.url() in done.stderr
    assert other.connected == 0


ASK = """
import sys
from machines_server.client import Client
print(Client(sys.argv[1]).ask("/api/leases")["leases"])
"""


def asked(url: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK, url],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "localhost", "LOCALHOST", "127.1", "[::1]"])
def test_loopback_addresses_are_sent_to_no_proxy(fakes: FakeFleet, host: str) -> None:
    proxy = answering(fakes, {"leases": ["by the proxy"]})
    address = {"127.9.8.7": "127.9.8.7", "[::1]": "::1"}.get(host, "127.0.0.1")
    server = answering(fakes, {"leases": ["by the server"]}, address=address)
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), proxy.url())
    assert asked(f"http://{host}:{server.port}", **proxies) == "['by the server']\n"
    assert proxy.connected == 0
    done = command("events", "--server", f"http://{host}:{server.port}", **proxies)
    assert proxy.connected == 0, done


def test_other_addresses_are_sent_to_the_proxy_of_the_environment(fakes: FakeFleet) -> None:
    proxy = answering(fakes, {"leases": ["by the proxy"]})
    assert asked("http://box.invalid:3038", http_proxy=proxy.url()) == "['by the proxy']\n"
    assert b"GET http://box.invalid:3038/api/leases" in proxy.requests[0]
    assert "cannot be reached" in asked("http://box.invalid", http_proxy=proxy.url(), no_proxy="box.invalid")


def test_an_answer_nested_without_end_is_no_machines_server(fakes: FakeFleet) -> None:
    with pytest.raises(ClientError, match="is not a machines-server"):
        Client(fakes.listen(http(b"[" * 200_000)).url("")).leases()


def test_what_a_server_says_in_its_errors_is_printable(fakes: FakeFleet) -> None:
    rejected = [{"name": NASTY, "code": NASTY, "reason": NASTY}]
    body: dict[str, Any] = {"error": "no_machine", "message": NASTY, "rejected": rejected}
    with pytest.raises(NoMachine) as caught:
        Client(answering(fakes, body, "503 Unavailable").url("")).pick("m")
    assert is_quiet(str(caught.value))
    assert "\n" not in str(caught.value)
    (one,) = caught.value.rejected
    assert one == Rejection(*[r"\x1b[2Jbox\x9b31m\nforged  online\r\x07\u202e\u2028"] * 3)
    assert caught.value.body["message"] == NASTY
    for status in ("400 Bad Request", "500 Internal", "404 Not Found"):
        with pytest.raises(ClientError) as other:
            Client(answering(fakes, {"error": "x", "message": NASTY}, status).url("")).leases()
        assert is_quiet(str(other.value))


def machine(**changes: Any) -> dict[str, Any]:
    return {
        "name": "box",
        "role": "gpu-host",
        "status": "online",
        "status_reason": None,
        "loaded_models": [],
        "telemetry": {},
    } | changes


PROBLEM = {"file": NASTY, "message": NASTY, "line": 1, "column": 2, "key": NASTY, "severity": "error"}


def test_no_word_of_a_machine_forges_a_row_of_the_list(fakes: FakeFleet) -> None:
    texts = {"name": NASTY, "role": NASTY, "status_reason": NASTY, "loaded_models": [NASTY]}
    body = {"machines": [machine(**texts), machine()], "errors": [PROBLEM], "leases": []}
    done = command("list", "--server", answering(fakes, body).url(""))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert len(done.stderr.splitlines()) == 1
    assert is_quiet(done.stdout + done.stderr)
    columns = {
        line.index("online", line.index("gpu-host") if "gpu-host" in line else 0)
        for line in done.stdout.splitlines()[2:]
    }
    assert columns == {done.stdout.splitlines()[0].index("STATUS")}


EVENT = {"id": 1, "at": "2026-11-23T17:00:00Z", "machine": NASTY, "type": NASTY, "reason": NASTY}
BEST = {"machine": "m", "hostname": "m", "port": 1, "url": NASTY, "model": NASTY, "warm": True}
SHOWN = machine(
    role=NASTY,
    note={NASTY: NASTY},
    models=[NASTY],
    network={"hostname": NASTY},
    _config_file=NASTY,
    ollama={"state": "ok", "message": NASTY, "models": []},
    sampled_at=None,
    last_seen=None,
    events=[],
    leases=[],
    errors=[PROBLEM],
)
LEASE = BEST | {"lease": "x; rm", "expires_at": NASTY, "holder": NASTY, "ttl_s": 60}


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["show", "box"], SHOWN),
        (["events"], {"events": [EVENT]}),
        (["pick", "m", "--lease"], LEASE),
        (
            ["pick", "m", "--explain"],
            BEST | {"candidates": [], "rejected": [{"name": NASTY, "code": NASTY, "reason": NASTY}]},
        ),
        (
            ["history", "box"],
            {
                "machine": NASTY,
                "from": "2026-11-23T17:00:00Z",
                "to": "2026-11-23T18:00:00Z",
                "step_s": 1,
                "series": [{"metric": NASTY, "gpu": None, "points": [], "unit": NASTY}],
            },
        ),
    ],
)
def test_no_command_prints_what_acts_on_a_terminal(fakes: FakeFleet, words: list[str], body: object) -> None:
    done = command(*words, "--server", answering(fakes, body).url(""))
    assert is_quiet(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["show", "box"], ["events"]])
def test_json_on_the_command_line_has_it_escaped(fakes: FakeFleet, words: list[str]) -> None:
    body = machine(events=[EVENT])
    done = command(*words, "--json", "--server", answering(fakes, body).url(""))
    assert done.stdout.isascii()
    assert is_quiet(done.stdout)
    assert json.loads(done.stdout) == (body if words[0] == "show" else EVENT)


def test_the_command_to_release_a_lease_runs_nothing_else(fakes: FakeFleet) -> None:
    done = command("pick", "m", "--lease", "--server", answering(fakes, LEASE).url(""))
    assert "machines-server leases release 'x; rm' --server" in done.stderr


def test_a_table_for_spreadsheets_keeps_its_lines_and_no_more(fakes: FakeFleet) -> None:
    text = "time,up\r\n1,2\r\n3,\x1b[2J\x85\u2028\r\n"
    done = command("history", "box", "--csv", "--server", fakes.listen(http(text.encode())).url(""))
    assert done.stdout == "time,up\n1,2\n3,\\x1b[2J\\x85\\u2028\n"


def test_an_error_and_a_usage_that_quote_what_acts_are_quiet(fakes: FakeFleet, tmp_path: Path) -> None:
    refusal = answering(fakes, {"error": "x", "message": NASTY}, "400 Bad Request")
    done = command("list", "--server", refusal.url(""))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    for words in (["list", "--server", NASTY], [NASTY], ["list", f"--{NASTY}"]):
        done = command(*words, MACHINES_DATA_DIR=str(tmp_path))
        assert done.returncode == 2
        assert is_quiet(done.stderr)


def test_client_sidecar_and_server_have_one_opinion_of_what_acts() -> None:
    line = LineFormatter("%(message)s")
    for code in (*range(0x3000), *range(0xD7F0, 0xE010), *range(0xFEF0, 0x10010)):
        character = chr(code)
        is_safe = printable(character) == character
        assert (str(ClientError(character)) == character) is is_safe
        assert (line.formatMessage(record(character)) == character) is is_safe


def record(message: str) -> Any:
    made = logging.LogRecord("x", logging.INFO, "x", 1, message, None, None)
    made.message = message
    return made


MACHINE: dict[str, Any] = {
    "name": "a",
    "role": "r",
    "status": "online",
    "loaded_models": [],
    "status_reason": None,
}
NO_MACHINE = {"error": "no_machine", "message": "none"}


@pytest.mark.parametrize(
    ("words", "body", "status"),
    [
        ("list", {}, "200 OK"),
        ("list", {"machines": None, "errors": []}, "200 OK"),
        ("list", {"machines": [{NASTY: 1}], "errors": []}, "200 OK"),
        ("list", {"machines": [MACHINE | {"telemetry": {"gpu": [{"vram_free_gb": NASTY}]}}]}, "200 OK"),
        ("list", {"machines": [], "errors": [{"severity": "error", NASTY: 1}]}, "200 OK"),
        ("history a", {"machine": NASTY, "from": NASTY, "to": NASTY, "step_s": 1, "series": []}, "200 OK"),
        ("events", {"events": [{"at": 1, "machine": None, "type": NASTY}]}, "200 OK"),
        ("pick m", {"candidates": 5}, "200 OK"),
        ("pick m --explain", {"candidates": [{NASTY: 1}], "rejected": []}, "200 OK"),
        ("pick m --lease", {"url": NASTY}, "200 OK"),
        ("pick m", NO_MACHINE | {"rejected": [], "retry_after_s": NASTY}, "503 No"),
        ("pick m --explain", NO_MACHINE | {"rejected": 5}, "503 No"),
    ],
)
def test_an_answer_of_another_form_is_one_printable_line_and_no_traceback(
    fakes: FakeFleet, words: str, body: object, status: str
) -> None:
    ended = command(*words.split(), "--server", answering(fakes, body, status).url(""))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "is this a machines-server?" in ended.stderr
    assert is_quiet(ended.stderr + ended.stdout)
