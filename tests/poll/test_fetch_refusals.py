"""Unexpected answers, each refused with its reason."""

from pathlib import Path

import pytest

from machines_server.core.sample import State
from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetcher
from machines_server.poll.transfer import MAX_POLL_ANSWER_BYTES
from machines_server.runtimes.hints import hint
from machines_server.runtimes.ollama import Ollama
from tests.bodies import http
from tests.certificates import authority, signed
from tests.core.machines import OLLAMA
from tests.fakes import FakeFleet, Script, wait_until
from tests.poll.fetching import ask, failure
from tests.scripts import CHUNKED, OK, pour, reset, say

NGINX = b"<html><center>The plain HTTP request was sent to HTTPS port</center><hr>nginx</html>"


GO = b"Client sent an HTTP request to an HTTPS server.\n"


APACHE = b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />"


TOMCAT = b"Bad Request\r\nThis combination of host and port requires TLS.\r\n"


def redirect(to: bytes, status: bytes = b"308 Permanent Redirect") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nLocation: " + to + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *(
            (http(body, "400 Bad Request"), "HTTP status 400, that port accepts only TLS")
            for body in (NGINX, GO, APACHE)
        ),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n" + GO, "HTTP status 400, that port accepts only TLS"),
        (http(TOMCAT, "400 "), "HTTP status 400, that port accepts only TLS"),
        (http(b"<a href='https://example.com'>help</a>", "400 Bad Request"), "HTTP status 400"),
        (redirect(b"https://gpu1.lan/api/ps"), "HTTP status 308, it redirects to https"),
        (redirect(b"HTTPS://gpu1.lan/", b"301 "), "HTTP status 301, it redirects to https"),
        (redirect(b"http://gpu1.lan/ollama/", b"301 "), "HTTP status 301"),
        (redirect(b"/login?next=https://x", b"302 "), "HTTP status 302"),
        (redirect(b"https://\xff\x1b/", b"302 "), "HTTP status 302, it redirects to https"),
        (http(b'{"error":"starting","message":"..."}', "503 "), "HTTP status 503, it is starting"),
        (
            http(b'{"error":"sampler_stalled","message":"..."}', "503 "),
            "HTTP status 503, its readings have stalled",
        ),
        (http(b"no available server\n", "503 "), "HTTP status 503"),
    ],
    ids=ascii,
)
def test_what_a_refusal_says_of_itself_is_told_in_our_own_words(
    fetcher: Fetcher, fakes: FakeFleet, answer: bytes, reason: str
) -> None:
    host = fakes.scripted(say(answer))
    assert failure(fetcher, host.url()) == (Failure.BAD_ANSWER, reason)


def test_plain_http_to_a_port_that_speaks_only_tls_is_no_http_answer(
    fetcher: Fetcher, fakes: FakeFleet, tmp_path: Path
) -> None:
    host = fakes.listen(http(b"{}"), tls=signed(tmp_path, authority(tmp_path), "DNS:localhost"))
    (ended,) = ask(fetcher, host.url())
    assert ended.failure is Failure.BAD_ANSWER
    advice = hint(Ollama, OLLAMA, "one.yaml", State.ERROR, ended.reason.code) if ended.reason else None
    assert "a port that accepts only TLS" in (advice or "")


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


def test_the_largest_body_is_one_mebibyte(fetcher: Fetcher, fakes: FakeFleet) -> None:
    for length in (b"Content-Length: %d\r\n" % MAX_POLL_ANSWER_BYTES, b""):
        host = fakes.scripted(say(OK + length + b"\r\n", b"x" * MAX_POLL_ANSWER_BYTES))
        (ended,) = ask(fetcher, host.url())
        assert (ended.failure, len(ended.body)) == (None, MAX_POLL_ANSWER_BYTES)


@pytest.mark.parametrize(
    "script",
    [
        say(OK + b"Content-Length: %d\r\n\r\n" % (MAX_POLL_ANSWER_BYTES + 1)),
        say(OK + b"Content-Length: 99999999999999999999999\r\n\r\n"),
        say(OK + b"\r\n", b"x" * (MAX_POLL_ANSWER_BYTES + 1)),
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


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OK + b"Transfer-Encoding: a\xffb\r\n\r\n", "an encoding that was not asked for"),
        (OK + b"Transfer-Encoding: \x1b[2Jgzip\r\n\r\n", "an encoding that was not asked for"),
        (OK + b"Transfer-Encoding: a\xe2\x80\xaeb\r\n\r\n{}", "an encoding that was not asked for"),
        (OK + b"Content-Length: \xff\r\n\r\n{}", "not an HTTP answer"),
        (b"HTTP/1.1 2\xff0 OK\r\n\r\n{}", "not an HTTP answer"),
        (b"HTTP/\xff.1 200 OK\r\n\r\n{}", "not an HTTP answer"),
        (CHUNKED + b"\xff\r\n{}\r\n", "not an HTTP answer"),
        (CHUNKED + b"fffffffffffffffff\xff\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 302 \x1b]0;\x07\r\nLocation: \xff\r\nContent-Length: 0\r\n\r\n", "HTTP status 302"),
    ],
    ids=ascii,
)
def test_a_reason_is_in_our_own_words_and_has_no_byte_of_the_host(
    fetcher: Fetcher, fakes: FakeFleet, answer: bytes, reason: str
) -> None:
    good = fakes.listen(http(b"{}"))
    bad, other = ask(fetcher, fakes.scripted(say(answer)).url(), good.url())
    assert (bad.failure, bad.reason and bad.reason.text) == (Failure.BAD_ANSWER, reason)
    assert other.body == b"{}"


def test_a_bad_answer_does_not_spoil_the_next(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.listen(b"garbage\r\n\r\n")
    assert failure(fetcher, host.url())[0] is Failure.BAD_ANSWER
    host.answer = http(b"{}")
    assert ask(fetcher, host.url())[0].body == b"{}"


def test_what_comes_after_an_answer_is_never_taken_for_the_next(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.listen(http(b"{}") + http(b'{"injected": 1}'))
    assert {ask(fetcher, host.url())[0].body for _ in range(4)} == {b"{}"}
