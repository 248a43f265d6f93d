"""Hosts that speak TLS, and what requests to them carry."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from machines_server.core.access import Access
from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetched, Fetcher
from machines_server.poll.targets import Target
from tests.bodies import http
from tests.certificates import authority, signed
from tests.fakes import FakeFleet

NOT_TRUSTED = "its certificate is not issued by a CA that is trusted here"


def ask(fetcher: Fetcher, targets: Iterable[Target]) -> list[Fetched]:
    """How each target ended, in their order."""
    targets = list(targets)
    ended = {one.target: one for one in fetcher.fetch(targets) if one}
    return [ended[target] for target in targets]


@pytest.fixture
def patient() -> Iterable[Fetcher]:
    """A fetcher that waits for a handshake even if other tests run beside this one."""
    fetcher = Fetcher(10)
    yield fetcher
    fetcher.close()


@pytest.mark.parametrize(
    ("name", "host", "trusts", "reason"),
    [
        ("IP:127.0.0.1", "127.0.0.1", True, None),
        ("DNS:localhost", "localhost", True, None),
        ("IP:127.0.0.1", "127.0.0.1", False, NOT_TRUSTED),
        ("IP:127.0.0.2", "127.0.0.1", True, "its certificate is for another name or address"),
        ("DNS:elsewhere.example", "localhost", True, "its certificate is for another name or address"),
    ],
)
def test_a_certificate_must_be_vouched_for_and_have_the_name_that_was_asked(
    patient: Fetcher, fakes: FakeFleet, tmp_path: Path, name: str, host: str, trusts: bool, reason: str | None
) -> None:
    trusted = authority(tmp_path)
    endpoint = fakes.listen(http(b"{}"), tls=signed(tmp_path, trusted, name))
    access = Access(authorities=trusted.read_bytes()) if trusts else None
    (ended,) = ask(patient, [Target(endpoint.url(host=host).replace("http", "https"), access)])
    if reason is None:
        assert (ended.failure, ended.body) == (None, b"{}")
    else:
        assert ended.failure is Failure.BAD_ANSWER
        assert ended.reason
        assert ended.reason.text == reason
        assert endpoint.requests == []


def test_the_authorities_of_the_system_count_unless_a_host_has_its_own(
    fakes: FakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, own = authority(tmp_path / "system"), authority(tmp_path / "own")
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    endpoint = fakes.listen(http(b"{}"), tls=signed(tmp_path, system, "IP:127.0.0.1"))
    url = endpoint.url().replace("http", "https")
    fetcher = Fetcher(10)
    targets = [Target(url), Target(url, Access(authorities=own.read_bytes()))]
    by_system, by_own = ask(fetcher, targets)
    fetcher.close()
    assert by_system.failure is None
    assert by_own.reason
    assert by_own.reason.text == NOT_TRUSTED


def test_a_server_without_authorities_blames_itself(
    fakes: FakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    endpoint = fakes.listen(http(b"{}"), tls=signed(tmp_path, authority(tmp_path), "IP:127.0.0.1"))
    fetcher = Fetcher(10)
    (ended,) = ask(fetcher, [Target(endpoint.url().replace("http", "https"))])
    fetcher.close()
    assert ended.failure is Failure.UNEQUIPPED
    assert ended.reason
    assert "install ca-certificates" in ended.reason.text


def test_a_kept_connection_is_used_only_with_the_authorities_that_vouched_for_it(
    patient: Fetcher, fakes: FakeFleet, tmp_path: Path
) -> None:
    trusted, other = authority(tmp_path / "trusted"), authority(tmp_path / "other")
    endpoint = fakes.listen(http(b"{}"), tls=signed(tmp_path, trusted, "IP:127.0.0.1"))
    url = endpoint.url().replace("http", "https")
    good = Target(url, Access(authorities=trusted.read_bytes()))
    bad = Target(url, Access(authorities=other.read_bytes()))
    for _ in range(3):  # the connection that the good one leaves is there for the bad one
        for target, failure in ((good, None), (bad, Failure.BAD_ANSWER)):
            (ended, *_) = ask(patient, [target, Target(fakes.listen(http(b"{}")).url())])
            assert ended.failure is failure
        assert [one.failure for one in ask(patient, [good, bad])] == [None, Failure.BAD_ANSWER]


def test_each_credential_is_sent_with_its_own_requests_alone(patient: Fetcher, fakes: FakeFleet) -> None:
    endpoint, elsewhere = fakes.listen(http(b"{}")), fakes.listen(http(b"{}"))
    one, other = (Target(endpoint.url(), Access(f"Bearer {token}")) for token in ("one", "other"))
    none, away = Target(endpoint.url()), Target(elsewhere.url())
    for targets in ([one], [other], [none], [one, other, none, away], [away, none, other, one]):
        endpoint.requests.clear()
        assert all(ended.failure is None for ended in ask(patient, targets))
        sent = sorted(
            line.decode()
            for request in endpoint.requests
            for line in request.splitlines()
            if line.lower().startswith(b"authorization")
        )
        expected = [
            f"Authorization: Bearer {token}"
            for token, target in (("one", one), ("other", other))
            if target in targets
        ]
        assert sent == expected
        assert len(endpoint.requests) == len([target for target in targets if target is not away])
    assert not [one for one in elsewhere.requests if b"uthorization" in one]


def test_a_redirect_takes_no_credential_elsewhere(patient: Fetcher, fakes: FakeFleet) -> None:
    elsewhere = fakes.listen(http(b"{}"))
    moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url()}\r\nContent-Length: 0\r\n\r\n".encode()
    (ended,) = ask(patient, [Target(fakes.listen(moved).url(), Access("Bearer one"))])
    assert ended.failure is Failure.BAD_ANSWER
    assert elsewhere.requests == []


def test_nothing_that_holds_a_credential_shows_it() -> None:
    target = Target("http://127.0.0.1:1/", Access("Bearer s3cret", b"authorities"))
    shown = repr((target, Fetched(target, 0.0))) + str(target.access)
    assert "s3cret" not in shown
    assert "authorities" not in shown
