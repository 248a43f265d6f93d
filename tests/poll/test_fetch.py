"""Real requests to real sockets: what is sent, over which connection, and which bodies come back."""

from importlib.metadata import version

import pytest

from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetcher
from tests.bodies import http
from tests.fakes import FakeFleet
from tests.poll.fetching import TIMEOUT_S, ask, failure, targets
from tests.ports import free_port
from tests.scripts import CHUNKED, OK, say


def test_a_body_comes_back_whole(fetcher: Fetcher, fakes: FakeFleet) -> None:
    bodies = {fakes.listen(http(body)).url(): body for body in (b"{}", b"", bytes(range(256)) * 1000)}
    for url, ended in zip(bodies, ask(fetcher, *bodies), strict=True):
        assert (ended.failure, ended.body) == (None, bodies[url])
        assert 0 < ended.took_s < TIMEOUT_S


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"\r\n{}", b"{}"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
        (CHUNKED + b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\nTrailer: 1\r\n\r\n", b"{}"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (OK + b"Content-Length: 2\r\n\r\n{}EXTRA", b"{}"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
    ],
)
def test_every_way_of_http_to_end_a_body_is_understood(
    fetcher: Fetcher, fakes: FakeFleet, answer: bytes, body: bytes
) -> None:
    (ended,) = ask(fetcher, fakes.scripted(say(answer)).url())
    assert (ended.failure, ended.body) == (None, body)


def test_nothing_to_ask_is_an_empty_round(fetcher: Fetcher) -> None:
    assert list(fetcher.fetch([])) == []


def test_a_url_that_is_named_twice_is_asked_once(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.ollama()
    assert len([one for one in fetcher.fetch(targets(host.url(), host.url())) if one]) == 1
    assert len(host.requests) == 1


def test_a_connection_is_kept_for_the_next_round(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.ollama("phi3:mini")
    bodies = {ask(fetcher, host.url())[0].body for _ in range(3)}
    assert len(bodies) == 1
    assert len(host.requests) == 3
    assert host.connected == 1


def test_a_host_that_restarted_between_two_rounds_is_connected_anew(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    host = fakes.ollama("phi3:mini")
    assert ask(fetcher, host.url())[0].failure is None
    host.stop()
    assert failure(fetcher, host.url()) == (Failure.UNREACHABLE, "connection refused")
    host.start()
    assert ask(fetcher, host.url())[0].failure is None
    assert host.connected == 2


def test_a_host_that_closed_its_side_in_between_is_not_missed(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.ollama("phi3:mini")
    for _ in range(3):
        assert ask(fetcher, host.url())[0].failure is None
        host.stop()
        host.start()
    assert host.connected == 3


def test_what_is_sent_is_a_plain_request_that_ollama_lets_in(
    fetcher: Fetcher, fakes: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, nobody)
    host = fakes.ollama("phi3:mini")
    (ended,) = ask(fetcher, host.url("/api/ps"))
    assert ended.failure is None
    line, *headers = host.requests[0].decode().rstrip().split("\r\n")
    assert line == "GET /api/ps HTTP/1.1"
    assert {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)} == {
        "host": f"127.0.0.1:{host.port}",
        "user-agent": "machines-server",
        "accept": "application/json",
        "accept-encoding": "identity",
        "sec-machines-client": f"machines-server/{version('machines-server')}",
    }


def test_an_ipv6_address_is_asked(fetcher: Fetcher, fakes: FakeFleet) -> None:
    try:
        host = fakes.listen(http(b"{}"), "::1")
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    assert host.url("/x").startswith("http://[::1]:")
    assert ask(fetcher, host.url("/x"))[0].body == b"{}"


def test_a_name_is_asked_at_its_addresses(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.listen(http(b"{}"))
    urls = [host.url(host=name) for name in ("localhost", "LocalHost")]
    assert [ended.body for ended in ask(fetcher, *urls)] == [b"{}", b"{}"]
    assert f"localhost:{host.port}".encode() in host.requests[0].lower()


@pytest.mark.parametrize("scheme", ["ftp", "gopher", "dict", "telnet"])
def test_no_other_protocol_is_spoken(fetcher: Fetcher, fakes: FakeFleet, scheme: str) -> None:
    host = fakes.listen(http(b"{}"))
    (ended,) = ask(fetcher, host.url().replace("http", scheme))
    assert (ended.failure, ended.body) == (Failure.BAD_ANSWER, b"")
    assert host.connected == 0
