"""What Prometheus may read where requests must be signed: with a token everything, else only the server."""

import os

import pytest

from tests.auth.agents import Answer, send
from tests.auth.enforcing import Enforcing
from tests.exposition.reading import Exposition

METRICS, TARGETS = "/metrics", "/api/prometheus/sd"
SECRETS = (b"secret-machine", b"24GB consumer GPU")
OF_FLEET = b'machines_up{machine="secret-machine"} 1'
TOKEN = "s3cret-token"  # noqa: S105  what the test puts into the file


@pytest.fixture
def token(enforcing: Enforcing) -> str:
    """The header that has the token."""
    enforcing.token.chmod(0o600)
    enforcing.token.write_text(f"{TOKEN}\n")
    return f"Bearer {TOKEN}"


def ask(enforcing: Enforcing, target: str, authorization: str, method: str = "GET") -> Answer:
    return send(enforcing.port, method, target, {"Authorization": authorization})


def shows_the_fleet(answer: Answer) -> bool:
    """Whether /metrics has the series of the fleet, beside those of the server."""
    assert answer.status == 200
    assert b"machines_server_requests_total{" in answer.body
    if OF_FLEET in answer.body:
        return True
    assert not [secret for secret in SECRETS if secret in answer.body]
    return False


def test_the_token_opens_the_fleet_and_the_sidecars(enforcing: Enforcing, token: str) -> None:
    assert shows_the_fleet(ask(enforcing, METRICS, token))
    assert shows_the_fleet(ask(enforcing, METRICS, f"bearer  {TOKEN}"))
    targets = ask(enforcing, TARGETS, token)
    assert targets.status == 200
    assert b"secret-machine" in targets.body
    for target in (METRICS, TARGETS):
        head = ask(enforcing, target, token, "HEAD")
        assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    "wrong", ["Bearer ", "Bearer s3cret", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}2", "Bearer \xff", ""]
)
def test_anything_else_opens_only_the_series_of_the_server(
    enforcing: Enforcing, token: str, wrong: str
) -> None:
    assert wrong != token
    assert not shows_the_fleet(ask(enforcing, METRICS, wrong))
    assert ask(enforcing, TARGETS, wrong).status == 401


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/api/infrastructure"),
        ("GET", "/%6detrics"),
        ("GET", "//metrics"),
        ("GET", "/api/prometheus/sd/"),
        ("POST", METRICS),
        ("POST", "/api/leases"),
    ],
)
def test_the_token_opens_nothing_else(enforcing: Enforcing, token: str, method: str, target: str) -> None:
    assert ask(enforcing, target, token, method).status == 401


def test_who_signs_reads_the_fleet_and_who_signs_wrongly_does_not(enforcing: Enforcing) -> None:
    assert shows_the_fleet(enforcing.get(METRICS))
    assert shows_the_fleet(enforcing.get("/%6detrics"))
    assert enforcing.get(TARGETS).status == 200
    forged = enforcing.agent.sign("GET", "/elsewhere")
    assert not shows_the_fleet(send(enforcing.port, "GET", METRICS, forged))
    unknown = enforcing.agent.sign("GET", METRICS, name="nobody")
    assert not shows_the_fleet(send(enforcing.port, "GET", METRICS, unknown))
    assert not shows_the_fleet(send(enforcing.port, "GET", METRICS, {"X-Nonce": "x"}))


def test_a_new_token_counts_at_once_and_one_that_others_can_read_never(
    enforcing: Enforcing, token: str
) -> None:
    for mode in (0o640, 0o604, 0o666):
        enforcing.token.chmod(mode)
        assert not shows_the_fleet(ask(enforcing, METRICS, token))
    assert "which gives others access" in enforcing.server.log.read_text()
    enforcing.token.chmod(0o600)
    assert shows_the_fleet(ask(enforcing, METRICS, token))
    enforcing.token.write_text("another")
    assert not shows_the_fleet(ask(enforcing, METRICS, token))
    assert shows_the_fleet(ask(enforcing, METRICS, "Bearer another"))
    enforcing.token.write_text("")
    assert not shows_the_fleet(ask(enforcing, METRICS, "Bearer "))
    assert TOKEN not in enforcing.server.log.read_text()


def test_what_is_no_file_has_no_token(enforcing: Enforcing, token: str) -> None:
    def refused() -> None:
        assert not shows_the_fleet(ask(enforcing, METRICS, token))
        assert ask(enforcing, TARGETS, token).status == 401

    enforcing.token.unlink()
    refused()
    enforcing.token.mkdir(0o700)
    refused()
    enforcing.token.rmdir()
    os.mkfifo(enforcing.token, 0o600)
    refused()
    enforcing.token.unlink()
    enforcing.token.touch(0o600)
    assert "is not a regular file" in enforcing.server.log.read_text()


def test_refusals_are_counted_by_reason(enforcing: Enforcing, token: str) -> None:
    def counted(reason: str) -> float:
        found = Exposition(ask(enforcing, METRICS, token).body.decode())
        return found.sum("machines_server_auth_refusals_total", mode="enforce", reason=reason)

    before = {reason: counted(reason) for reason in ("missing_headers", "bad_signature", "bad_token")}
    for _ in range(5):
        send(enforcing.port, "GET", "/api/infrastructure")
        send(enforcing.port, "GET", METRICS)  # which is open
        ask(enforcing, METRICS, "Bearer wrong")
        send(enforcing.port, "GET", "/api/leases", enforcing.agent.sign("GET", "/elsewhere"))
    assert {reason: counted(reason) - was for reason, was in before.items()} == dict.fromkeys(before, 5)
