"""Real requests to real sockets: each ends in time, with a body or with the reason why there is none."""

import socket
import time
from pathlib import Path

import pycurl
import pytest

from machines_server.poll.fetch import Failure, Fetcher
from machines_server.poll.transfer import MAX_BODY_BYTES
from tests.certificates import authority, signed
from tests.fakes import FakeFleet, Script, http, wait_until
from tests.poll.fetching import TIMEOUT_S, ask, failure
from tests.running import free_port
from tests.scripts import CHUNKED, OK, drip, pour, reset, say

IN_TIME_S = TIMEOUT_S + 3


# Answers


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
    assert len([one for one in fetcher.fetch([host.url(), host.url()]) if one]) == 1
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


# No connection


def test_a_closed_port_refuses(fetcher: Fetcher) -> None:
    assert failure(fetcher, f"http://127.0.0.1:{free_port()}/") == (
        Failure.UNREACHABLE,
        "connection refused",
    )


def test_a_name_that_does_not_exist_is_unreachable(fetcher: Fetcher) -> None:
    why, reason = failure(fetcher, "http://nosuch.invalid:11434/api/ps")
    assert why is Failure.UNREACHABLE
    assert (reason or "").startswith("name not ")


def test_a_host_that_takes_no_connection_is_unreachable_within_the_deadline(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    started = time.monotonic()
    assert failure(fetcher, fakes.deaf().url()) == (
        Failure.UNREACHABLE,
        f"no connection within {TIMEOUT_S:g} s",
    )
    assert time.monotonic() - started < 5 * IN_TIME_S


def test_a_host_that_ended_and_then_takes_no_connection_is_not_called_silent(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    deaf = fakes.deaf()
    deaf.stop()
    host = fakes.listen(http(b"{}"), port=deaf.port)
    assert ask(fetcher, host.url())[0].failure is None
    host.stop()
    deaf.start()
    assert failure(fetcher, host.url()) == (Failure.UNREACHABLE, f"no connection within {TIMEOUT_S:g} s")


@pytest.mark.parametrize("scheme", ["ftp", "gopher", "dict", "telnet"])
def test_no_other_protocol_is_spoken(fetcher: Fetcher, fakes: FakeFleet, scheme: str) -> None:
    host = fakes.listen(http(b"{}"))
    (ended,) = ask(fetcher, host.url().replace("http", scheme))
    assert (ended.failure, ended.body) == (Failure.BAD_ANSWER, b"")
    assert host.connected == 0


# A connection, but no whole answer in time


def test_hosts_that_drip_one_byte_at_a_time_are_given_up_at_the_deadline(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    drips = {
        "status": drip(b"", b"HTTP/1.1 200 " + b"O" * 1000),
        "headers": drip(OK, b"X-Drop: 1\r\n"),
        "one header": drip(OK + b"X-Drop: ", b"1"),
        "body": drip(OK + b"Content-Length: 100000\r\n\r\n", b"{}"),
        "body without end": drip(OK + b"\r\n", b" "),
        "chunks": drip(CHUNKED, b"1\r\n{\r\n"),
        "interim answers": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    }
    urls = {fakes.scripted(script).url(f"/{name.replace(' ', '-')}"): name for name, script in drips.items()}
    started = time.monotonic()
    ended = ask(fetcher, *urls)
    assert {urls[one.url]: (one.failure, one.reason, one.body) for one in ended} == dict.fromkeys(
        drips, (Failure.SILENT, f"no answer within {TIMEOUT_S:g} s on an open connection", b"")
    )
    assert time.monotonic() - started < 5 * IN_TIME_S


def test_a_silent_host_is_given_up_at_the_deadline(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.listen(None)
    (ended,) = ask(fetcher, host.url())
    assert ended.failure is Failure.SILENT
    assert TIMEOUT_S * 0.9 <= ended.took_s < IN_TIME_S


def test_a_host_that_never_accepts_is_silent_since_its_kernel_connected(fetcher: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        why, _ = failure(fetcher, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert why is Failure.SILENT


def test_a_kept_connection_that_falls_silent_is_given_up_and_the_next_is_new(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    host = fakes.listen(http(b"{}"))
    assert ask(fetcher, host.url())[0].failure is None
    host.answer = None
    assert failure(fetcher, host.url())[0] is Failure.SILENT
    host.answer = http(b"{}")
    assert ask(fetcher, host.url())[0].failure is None
    assert host.connected >= 2


def test_half_of_two_hundred_hosts_hang_and_the_others_come_at_once(
    fakes: FakeFleet,
) -> None:
    quick, hanging = fakes.listen(http(b"{}"), "0.0.0.0"), fakes.listen(None, "0.0.0.0")
    urls = [host.url(host=f"127.0.1.{number}") for number in range(1, 101) for host in (hanging, quick)]
    fetcher = Fetcher(1.5)
    order = [one for one in fetcher.fetch(urls) if one]
    fetcher.close()
    assert [one.failure for one in order[:100]] == [None] * 100
    assert {one.failure for one in order[100:]} <= {Failure.SILENT, Failure.OWN}
    assert len(order) == 200


# An answer that is not the one asked for


@pytest.mark.parametrize(
    "status",
    [
        *("201 Created", "204 No Content", "206 Partial", "304 Not Modified", "400 Bad", "401 Unauthorized"),
        *("403 Forbidden", "404 Not Found", "429 Slow", "500 Oops", "502 Bad Gateway", "503 Busy", "999 X"),
    ],
)
def test_any_status_but_200_is_no_answer(fetcher: Fetcher, fakes: FakeFleet, status: str) -> None:
    body = b"" if status[:3] in ("204", "304") else b'{"models": []}'
    host = fakes.scripted(say(f"HTTP/1.1 {status}\r\nWWW-Authenticate: Basic\r\n\r\n".encode(), body))
    assert failure(fetcher, host.url()) == (Failure.BAD_ANSWER, f"HTTP status {status[:3]}")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(fetcher: Fetcher, fakes: FakeFleet, status: str) -> None:
    elsewhere = fakes.listen(http(b"{}"))
    answer = f"HTTP/1.1 {status}\r\nLocation: {elsewhere.url()}\r\nContent-Length: 0\r\n\r\n"
    host = fakes.listen(answer.encode())
    assert failure(fetcher, host.url()) == (Failure.BAD_ANSWER, f"HTTP status {status[:3]}")
    assert elsewhere.connected == 0


@pytest.mark.parametrize(
    ("name", "trusts", "reason"),
    [
        ("IP:127.0.0.1", True, None),
        ("IP:127.0.0.1", False, "certificate"),
        ("IP:127.0.0.2", True, "certificate subject name"),
        ("DNS:elsewhere.example", True, "certificate subject name"),
    ],
)
def test_a_certificate_must_be_vouched_for_and_have_the_name_that_was_asked(
    fetcher: Fetcher, fakes: FakeFleet, tmp_path: Path, name: str, trusts: bool, reason: str | None
) -> None:
    trusted = authority(tmp_path)
    host = fakes.listen(http(b"{}"), tls=signed(tmp_path, trusted, name))
    url = host.url().replace("http", "https")
    if trusts:  # machine files declare plain HTTP, so there is no setting for this
        fetcher._transfer(url).curl.setopt(pycurl.CAINFO, str(trusted))
    (ended,) = ask(fetcher, url)
    if reason is None:
        assert (ended.failure, ended.body) == (None, b"{}")
    else:
        assert ended.failure is Failure.BAD_ANSWER
        assert reason in (ended.reason or "")
        assert host.requests == []


def test_the_largest_body_is_one_mebibyte(fetcher: Fetcher, fakes: FakeFleet) -> None:
    for length in (b"Content-Length: %d\r\n" % MAX_BODY_BYTES, b""):
        host = fakes.scripted(say(OK + length + b"\r\n", b"x" * MAX_BODY_BYTES))
        (ended,) = ask(fetcher, host.url())
        assert (ended.failure, len(ended.body)) == (None, MAX_BODY_BYTES)


@pytest.mark.parametrize(
    "script",
    [
        say(OK + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)),
        say(OK + b"Content-Length: 99999999999999999999999\r\n\r\n"),
        say(OK + b"\r\n", b"x" * (MAX_BODY_BYTES + 1)),
        pour(OK + b"\r\n", b"x" * 65536),
        pour(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    ],
    ids=["announced", "announced beyond numbers", "not announced", "endless", "endless chunks"],
)
def test_a_larger_body_is_refused_whatever_was_announced(
    fetcher: Fetcher, fakes: FakeFleet, script: Script
) -> None:
    host = fakes.scripted(script)
    assert failure(fetcher, host.url()) == (Failure.BAD_ANSWER, "answer larger than 1 MiB")
    wait_until(lambda: host.open_connections == 0)


@pytest.mark.parametrize(
    "script",
    [
        pour(OK, b"X-More: " + b"y" * 1000 + b"\r\n"),
        pour(OK + b"X-More: ", b"y" * 1000),
        pour(b"HTTP/1.1 200 ", b"y" * 1000),
        pour(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        pour(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-More: " + b"y" * 1000 + b"\r\n"),
    ],
    ids=["headers", "one header", "status", "1xx", "trailers"],
)
def test_headers_without_end_are_refused_before_the_deadline(
    fetcher: Fetcher, fakes: FakeFleet, script: Script
) -> None:
    assert failure(fetcher, fakes.scripted(script).url()) == (Failure.BAD_ANSWER, "headers without end")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (say(), "connection closed without an answer"),
        (say(OK + b"Content-Length: 50\r\n\r\n{"), "answer cut short"),
        (say(CHUNKED + b"5\r\nab"), "answer cut short"),
        (say(CHUNKED + b"2\r\n{}\r\n"), "answer cut short"),
        (reset(), "connection reset"),
        (reset(OK + b"Content-Le"), "connection reset"),
        (reset(OK + b"Content-Length: 50\r\n\r\n{"), "connection reset"),
    ],
)
def test_an_answer_that_breaks_off_says_how(
    fetcher: Fetcher, fakes: FakeFleet, script: Script, reason: str
) -> None:
    assert failure(fetcher, fakes.scripted(script).url()) == (Failure.BAD_ANSWER, reason)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"\0\1\2\3",
            b"{}",
            b"220 ftp ready\r\n",
            b"\x15\x03\x01\x00\x02\x02\x16",
        ),
        *(
            b"HTTP/9.9 200 OK\r\n\r\n{}",
            b"HTTP/1.1 abc\r\n\r\n{}",
            b"HTTP/3 200 OK\r\n\r\n{}",
            b"ICY 200 OK\r\n\r\n",
        ),
        *(OK + b"no colon\r\n\r\n{}", OK + b"X: a\0b\r\n\r\n{}", OK + b"Content-Length: x\r\n\r\n{}"),
        *(OK + b"Content-Length: -2\r\n\r\n{}", CHUNKED + b"zz\r\n{}\r\n", CHUNKED + b"-1\r\n{}\r\n"),
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    ],
)
def test_what_is_not_http_is_called_so(fetcher: Fetcher, fakes: FakeFleet, answer: bytes) -> None:
    assert failure(fetcher, fakes.scripted(say(answer)).url()) == (Failure.BAD_ANSWER, "not an HTTP answer")


def test_a_bad_answer_does_not_spoil_the_next(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.listen(b"garbage\r\n\r\n")
    assert failure(fetcher, host.url())[0] is Failure.BAD_ANSWER
    host.answer = http(b"{}")
    assert ask(fetcher, host.url())[0].body == b"{}"


def test_what_comes_after_an_answer_is_never_taken_for_the_next(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.listen(http(b"{}") + http(b'{"injected": 1}'))
    assert {ask(fetcher, host.url())[0].body for _ in range(4)} == {b"{}"}
