"""With AUTH_MODE=enforce only what is signed is answered; all else is refused, for the right reason."""

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from machines_server.web.authentication import OPEN_PATHS
from request_signing.message import WITH_QUERY
from tests.auth.agents import Agents, send
from tests.auth.enforcing import Enforcing
from tests.fakes import wait_until
from tests.running import RunningServer

FLEET = "/api/infrastructure"


def reason(enforcing: Enforcing, method: str, target: str) -> str | None:
    headers = enforcing.agent.sign(method, target)
    return send(enforcing.port, method, target, headers).reason


def test_what_an_agent_signs_is_answered(enforcing: Enforcing) -> None:
    assert enforcing.get(FLEET).status == 200
    for target in ("/api/machines/secret-machine", "/api/events?limit=1", "/"):
        assert enforcing.get(target).status == 200


def test_a_body_is_signed_with_it(enforcing: Enforcing) -> None:
    body = b'{"model": "nowhere"}'
    headers = enforcing.agent.sign("POST", "/api/leases", body)
    assert send(enforcing.port, "POST", "/api/leases", headers, body).status == 503  # no machine has it
    headers = enforcing.agent.sign("POST", "/api/leases", body)
    assert send(enforcing.port, "POST", "/api/leases", headers, body + b" ").reason == "bad_signature"
    headers = enforcing.agent.sign("POST", "/api/leases", b"")
    assert send(enforcing.port, "POST", "/api/leases", headers, body).reason == "bad_signature"


def test_a_refusal_says_why_in_json(enforcing: Enforcing) -> None:
    answer = send(enforcing.port, "GET", FLEET)
    assert answer.status == 401
    body = json.loads(answer.body)
    assert set(body) == {"error", "reason", "message"}
    assert (body["error"], body["reason"]) == ("unauthorized", "missing_headers")


@pytest.mark.parametrize("name", ["X-Agent-Id", "X-Timestamp", "X-Nonce", "X-Signature"])
def test_each_header_is_needed_and_only_once(enforcing: Enforcing, name: str) -> None:
    headers = enforcing.agent.sign("GET", FLEET)
    without = [pair for pair in headers.items() if pair[0] != name]
    assert send(enforcing.port, "GET", FLEET, without).reason == "missing_headers"
    assert send(enforcing.port, "GET", FLEET, [*without, (name, "")]).reason == "missing_headers"
    twice = [*headers.items(), (name, headers[name])]
    assert send(enforcing.port, "GET", FLEET, twice).reason == "malformed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Timestamp", "yesterday"),
        ("X-Timestamp", "2026-11-29T07:00:00+01:00"),
        ("X-Timestamp", "1795939200"),
        ("X-Nonce", "0" * 31),
        ("X-Nonce", "g" * 32),
        ("X-Nonce", "0" * 33),
        ("X-Signature", "A" * 88),
        ("X-Signature", "A" * 87 + "="),
        ("X-Signature", "A" * 84 + "===="),
        ("X-Signature", "-" * 86 + "=="),
        ("X-Signature-Version", "3"),
        ("X-Signature-Version", ""),
        ("X-Agent-Id", "a" * 1000),
    ],
)
def test_malformed_headers_are_refused(enforcing: Enforcing, name: str, value: str) -> None:
    headers = enforcing.agent.sign("GET", FLEET) | {name: value}
    assert send(enforcing.port, "GET", FLEET, headers).reason == "malformed"


@pytest.mark.parametrize("ahead_s", [-301.5, 61.5, -86_400, 1e9])
def test_a_signature_holds_for_a_while_only(enforcing: Enforcing, ahead_s: float) -> None:
    headers = enforcing.agent.sign("GET", FLEET, ahead_s=ahead_s)
    assert send(enforcing.port, "GET", FLEET, headers).reason == "timestamp_out_of_window"


def test_clocks_may_be_off_by_a_minute(enforcing: Enforcing) -> None:
    headers = enforcing.agent.sign("GET", FLEET, ahead_s=55)
    assert send(enforcing.port, "GET", FLEET, headers).status == 200


@pytest.mark.parametrize(
    "name",
    ["nobody", "../private/me", "..", ".", "me.pub", "me\\..", "%2e%2e/me", "ME", "me ", "", "m\xe9"],
)
def test_only_an_agent_with_a_key_file_is_known(enforcing: Enforcing, name: str) -> None:
    headers = enforcing.agent.sign("GET", FLEET, name=name or " ")
    expected = "missing_headers" if not name else "unknown_agent"
    if name == "me ":  # white space around a value is not part of it (RFC 9110, 5.5)
        assert send(enforcing.port, "GET", FLEET, headers).status == 200
    else:
        assert send(enforcing.port, "GET", FLEET, headers).reason == expected


@pytest.mark.parametrize(
    ("sent_method", "sent_target"),
    [
        ("HEAD", FLEET),
        ("POST", FLEET),
        ("GET", "/api/machines"),
        ("GET", "//api/infrastructure"),
        ("GET", "/api/./infrastructure"),
        ("GET", "/api/%69nfrastructure"),
        ("GET", "/%2e/api/infrastructure"),
        ("GET", f"{FLEET}/"),
    ],
)
def test_method_and_path_are_signed_as_they_are_sent(
    enforcing: Enforcing, sent_method: str, sent_target: str
) -> None:
    headers = enforcing.agent.sign("GET", FLEET)
    answer = send(enforcing.port, sent_method, sent_target, headers)
    assert answer.status == 401
    if sent_method != "HEAD":
        assert answer.reason == "bad_signature"


def test_a_path_that_is_signed_as_it_is_sent_is_taken(enforcing: Enforcing) -> None:
    for target in ("/api/%69nfrastructure", "//api/infrastructure", "/api/machines/secret%2Dmachine"):
        assert reason(enforcing, "GET", target) is None


def test_a_method_in_lower_case_is_another_one(enforcing: Enforcing) -> None:
    headers = enforcing.agent.sign("GET", FLEET)
    assert send(enforcing.port, "get", FLEET, headers).status in (400, 401, 501)


def test_the_first_version_does_not_sign_the_query_and_the_second_does(enforcing: Enforcing) -> None:
    target, other = "/api/events?limit=1", "/api/events?limit=2"
    headers = enforcing.agent.sign("GET", target)
    assert send(enforcing.port, "GET", other, headers).status == 200
    headers = enforcing.agent.sign("GET", target, version=WITH_QUERY)
    assert send(enforcing.port, "GET", target, headers).status == 200
    headers = enforcing.agent.sign("GET", target, version=WITH_QUERY)
    assert send(enforcing.port, "GET", other, headers).reason == "bad_signature"
    headers = enforcing.agent.sign("GET", target, version=WITH_QUERY)
    del headers["X-Signature-Version"]
    assert send(enforcing.port, "GET", target, headers).reason == "bad_signature"


def test_a_number_is_used_once_whichever_worker_answers(enforcing: Enforcing) -> None:
    headers = enforcing.agent.sign("GET", FLEET)
    assert send(enforcing.port, "GET", FLEET, headers).status == 200
    assert {send(enforcing.port, "GET", FLEET, headers).reason for _ in range(12)} == {"nonce_replayed"}


def test_who_has_not_signed_uses_up_no_number(enforcing: Enforcing) -> None:
    headers = enforcing.agent.sign("GET", FLEET)
    forged = headers | {"X-Signature": enforcing.agent.sign("GET", "/other")["X-Signature"]}
    assert send(enforcing.port, "GET", FLEET, forged).reason == "bad_signature"
    assert send(enforcing.port, "GET", FLEET, headers).status == 200


def test_another_agents_key_does_not_fit(enforcing: Enforcing) -> None:
    other = enforcing.agents.add("other")
    headers = other.sign("GET", FLEET, name="me")
    assert send(enforcing.port, "GET", FLEET, headers).reason == "bad_signature"


def test_keys_come_and_go_with_the_next_request(enforcing: Enforcing) -> None:
    guest = enforcing.agents.add("guest")
    for _ in range(3):
        assert send(enforcing.port, "GET", FLEET, guest.sign("GET", FLEET)).status == 200
        enforcing.agents.remove("guest")
        for _ in range(6):  # by either worker
            answer = send(enforcing.port, "GET", FLEET, guest.sign("GET", FLEET))
            assert answer.reason == "unknown_agent"
        guest = enforcing.agents.add("guest")


def test_a_file_may_hold_the_old_and_the_new_key(enforcing: Enforcing) -> None:
    old = enforcing.agents.add("rotating")
    old_line = (enforcing.agents.public / "rotating.pub").read_bytes()
    old_private = old.private_key.read_bytes()
    new = enforcing.agents.add("rotating")
    with (enforcing.agents.public / "rotating.pub").open("ab") as file:
        file.write(b"# the key before\n" + old_line)
    assert send(enforcing.port, "GET", FLEET, new.sign("GET", FLEET)).status == 200
    new.private_key.write_bytes(old_private)
    assert send(enforcing.port, "GET", FLEET, new.sign("GET", FLEET)).status == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ssh-ed25519",
        b"ssh-ed25519 AAAA",
        b"ssh-ed25519 !!!!",
        b"\xff\xfe\x00",
        b"-----BEGIN PUBLIC KEY-----\n",
        b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== me",
    ],
)
def test_a_file_without_an_ed25519_key_makes_nobody_known(enforcing: Enforcing, content: bytes) -> None:
    agent = enforcing.agents.add("garbage")
    line = (enforcing.agents.public / "garbage.pub").read_bytes()
    (enforcing.agents.public / "garbage.pub").write_bytes(content)
    headers = agent.sign("GET", FLEET)
    assert send(enforcing.port, "GET", FLEET, headers).reason == "unknown_agent"
    (enforcing.agents.public / "garbage.pub").write_bytes(line[: len(line) // 2])  # while it is written
    assert send(enforcing.port, "GET", FLEET, agent.sign("GET", FLEET)).reason == "unknown_agent"
    (enforcing.agents.public / "garbage.pub").write_bytes(line)
    assert send(enforcing.port, "GET", FLEET, agent.sign("GET", FLEET)).status == 200


def test_a_key_file_of_another_kind_makes_nobody_known_and_stops_nobody(
    enforcing: Enforcing, tmp_path: Path
) -> None:
    agent = enforcing.agents.add("odd")
    file = enforcing.agents.public / "odd.pub"
    line = file.read_bytes()

    odd: list[Callable[[], object]] = [
        partial(os.mkfifo, file),
        file.mkdir,
        partial(file.write_bytes, b"\n" * 2**20 + line),
        partial(file.symlink_to, file),
        partial(file.symlink_to, "/dev/zero"),
    ]
    for put in odd:
        file.unlink()
        put()
        for _ in range(4):  # by both workers
            assert send(enforcing.port, "GET", FLEET, agent.sign("GET", FLEET)).reason == "unknown_agent"
            assert send(enforcing.port, "GET", "/health").status == 200
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
            file.touch()
    file.unlink()
    (tmp_path / "elsewhere").write_bytes(line)
    file.symlink_to(tmp_path / "elsewhere")
    assert send(enforcing.port, "GET", FLEET, agent.sign("GET", FLEET)).status == 200


def test_a_key_that_is_replaced_in_place_counts_at_once(enforcing: Enforcing) -> None:
    one, file = enforcing.agents.add("in-place"), enforcing.agents.public / "in-place.pub"
    first = file.read_bytes(), one.private_key.read_bytes()
    enforcing.agents.add("in-place")
    second = file.read_bytes(), one.private_key.read_bytes()
    for public, private in (first, second) * 3:
        other = second if private == first[1] else first
        # The same file, of the same size, perhaps within a tick of its clock.
        with file.open("r+b") as opened:
            opened.write(public)
        one.private_key.write_bytes(private)
        assert send(enforcing.port, "GET", FLEET, one.sign("GET", FLEET)).status == 200
        one.private_key.write_bytes(other[1])
        assert send(enforcing.port, "GET", FLEET, one.sign("GET", FLEET)).reason == "bad_signature"


def test_a_body_over_the_limit_is_refused(enforcing: Enforcing) -> None:
    body = b"x" * 2**21
    headers = enforcing.agent.sign("POST", "/api/leases", body)
    assert send(enforcing.port, "POST", "/api/leases", headers, body).status == 413


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_tells_nothing_of_the_fleet_is_open(enforcing: Enforcing, method: str) -> None:
    for path in OPEN_PATHS:
        answer = send(enforcing.port, method, path.decode())
        assert answer.status != 401
        assert b"secret-machine" not in answer.body
    assert send(enforcing.port, method, "/static/app.js").status == 200
    assert send(enforcing.port, "OPTIONS", FLEET).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize(
    "target", ["/", FLEET, "/api/leases/x", "/nothing", "/health/", "/healthz", "/static"]
)
def test_everything_else_is_closed(enforcing: Enforcing, method: str, target: str) -> None:
    assert send(enforcing.port, method, target).status == 401


def test_replays_are_refused_after_a_restart(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    agent = agents.add("me")
    headers: dict[str, str] = {}
    answers = []
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        with RunningServer(tmp_path, AUTH_MODE="enforce", AUTH_KEYS_DIR=str(agents.public)) as server:
            headers = headers or agent.sign("GET", FLEET)
            answers.append(send(int(server.settings["MACHINES_PORT"]), "GET", FLEET, headers))
            for process in psutil.Process(server.process.pid).children():
                process.send_signal(end)
    assert [one.reason for one in answers] == [None, "nonce_replayed", "nonce_replayed"]


def test_refusals_are_logged(enforcing: Enforcing) -> None:
    target = f"/logged-{time.time()}"
    send(enforcing.port, "GET", target)
    wait_until(lambda: f"refused GET {target}: missing_headers (-)" in enforcing.server.log.read_text())
