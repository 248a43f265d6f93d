"""Hosts that speak TLS."""

from contextlib import closing
from pathlib import Path

import pytest

from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetcher
from tests.bodies import http
from tests.certificates import authority, signed
from tests.fakes import FakeFleet
from tests.poll.fetching import TIMEOUT_S, ask


@pytest.mark.parametrize(
    ("name", "trusts", "reason"),
    [
        ("IP:127.0.0.1", True, None),
        ("IP:127.0.0.1", False, "certificate"),
        ("IP:127.0.0.2", True, "certificate is for another name or address"),
        ("DNS:elsewhere.example", True, "certificate is for another name or address"),
    ],
)
def test_a_certificate_must_be_vouched_for_and_have_the_name_that_was_asked(
    fakes: FakeFleet, tmp_path: Path, name: str, trusts: bool, reason: str | None
) -> None:
    trusted = authority(tmp_path)
    host = fakes.listen(http(b"{}"), tls=signed(tmp_path, trusted, name))
    url = host.url().replace("http", "https")
    with closing(Fetcher(TIMEOUT_S, ca_file=trusted if trusts else None)) as fetcher:
        (ended,) = ask(fetcher, url)
    if reason is None:
        assert (ended.failure, ended.body) == (None, b"{}")
    else:
        assert ended.failure is Failure.BAD_ANSWER
        assert ended.reason
        assert reason in ended.reason.text
        assert host.requests == []
