"""Hosts that accept no connection, and those that send no whole answer in time."""

import socket
import time
from contextlib import closing

from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetcher
from tests.bodies import http
from tests.fakes import FakeFleet
from tests.poll.fetching import TIMEOUT_S, ask, failure, round_in_time
from tests.ports import free_port
from tests.scripts import CHUNKED, OK, drip

IN_TIME_S = TIMEOUT_S + 3


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
    assert {
        urls[one.url]: (one.failure, one.reason and one.reason.text, one.body) for one in ended
    } == dict.fromkeys(
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
    with closing(Fetcher(1.5)) as fetcher:
        found = round_in_time(fetcher, urls, 1.5)
    assert [one.failure for one in found.ended[:100]] == [None] * 100
    assert {one.failure for one in found.ended[100:]} == {Failure.SILENT}
