"""Which answers show that a service is active; what happens to one changes nothing for the others."""

import pytest

from machines_server.core.host_services import OWN_HOST, ServiceResult, ServiceStatus
from machines_server.core.machine import HostService
from machines_server.core.sample import PollResult, Sample, State
from machines_server.poll.cycle import AnswerReader, poll_all
from machines_server.poll.fetch import Fetcher
from tests.core.machines import a_machine
from tests.fakes import FakeFleet, Script
from tests.ports import free_port
from tests.scripts import OK, drip, pour, reset, say

ACTIVE = {
    "200": say(OK + b"\r\n<html>"),
    "204": say(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a redirect": say(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"),
    "it wants a login": say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    "404": say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    "499": say(b"HTTP/1.1 499 x\r\nContent-Length: 0\r\n\r\n"),
    "an endless answer": pour(OK + b"\r\n", b"x" * 2**16),
    "a stream of events": drip(OK + b"Content-Type: text/event-stream\r\n\r\n", b"data: x\n\n"),
    "headers that never end": drip(OK, b"X: x\r\n"),
    "an answer cut short": say(OK + b"Content-Length: 10\r\n\r\nx"),
}
INACTIVE = {
    "500": (say(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"), "HTTP status 500"),
    "503": (say(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"), "HTTP status 503"),
    "600": (say(b"HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n"), "HTTP status 600"),
    "no HTTP": (say(b"SSH-2.0-x\r\n"), "not an HTTP answer"),
    "only an early hint": (say(b"HTTP/1.1 103 x\r\n\r\n"), "connection closed without an answer"),
    "no status in time": (drip(b"", b"H", 1), "within"),
    "a reset": (reset(), "connection reset"),
    "nothing": (say(), "connection closed without an answer"),
}


def a_service(port: int, name: str = "web", path: str = "/") -> HostService:
    return HostService(name, port, path, "", f"http://127.0.0.1:{port}{path}")


def services(fetcher: Fetcher, *on_host: HostService) -> dict[str, ServiceResult]:
    """How the services of the server's own host are found, by name."""
    came = poll_all([], fetcher, AnswerReader(), own_services=on_host)
    found = [one for one in came if isinstance(one, ServiceResult)]
    assert {one.machine for one in found} == {OWN_HOST}
    return {one.service.name: one for one in found}


def listening(fakes: FakeFleet, scripts: dict[str, Script]) -> list[HostService]:
    return [a_service(fakes.scripted(script).port, name) for name, script in scripts.items()]


def test_any_answer_below_500_is_active(fetcher: Fetcher, fakes: FakeFleet) -> None:
    found = services(fetcher, *listening(fakes, ACTIVE))
    assert {name: (one.status, one.reason) for name, one in found.items()} == dict.fromkeys(
        ACTIVE, (ServiceStatus.ACTIVE, None)
    )


def test_any_other_answer_is_inactive(fetcher: Fetcher, fakes: FakeFleet) -> None:
    found = services(fetcher, *listening(fakes, {name: script for name, (script, _) in INACTIVE.items()}))
    for name, (_, reason) in INACTIVE.items():
        assert found[name].status is ServiceStatus.INACTIVE, name
        assert reason in (found[name].reason or ""), name


def test_a_closed_port_is_inactive(fetcher: Fetcher) -> None:
    found = services(fetcher, a_service(free_port()))["web"]
    assert (found.status, found.reason) == (ServiceStatus.INACTIVE, "connection refused")


def test_a_status_of_an_earlier_round_says_nothing(fetcher: Fetcher, fakes: FakeFleet) -> None:
    host = fakes.scripted(ACTIVE["404"])
    assert services(fetcher, a_service(host.port))["web"].status is ServiceStatus.ACTIVE
    host.stop()
    assert services(fetcher, a_service(host.port))["web"].status is ServiceStatus.INACTIVE


def test_services_are_polled_beside_the_endpoints_and_change_nothing_there(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    ollama, dead = fakes.ollama("phi3:mini"), free_port()
    on_host = (a_service(dead), a_service(ollama.port, "same", "/api/ps"))
    machine = a_machine("one", port=ollama.port, has_sidecar=False, services=on_host)
    came = [one for one in poll_all([machine], fetcher, AnswerReader()) if one is not None]
    states = [one.state for one in came if isinstance(one, PollResult)]
    assert states == [State.OK]
    assert [list(one.results) for one in came if isinstance(one, Sample)] == [["ollama"]]
    found = {one.service.name: (one.machine, one.status) for one in came if isinstance(one, ServiceResult)}
    assert found == {"web": ("one", ServiceStatus.INACTIVE), "same": ("one", ServiceStatus.ACTIVE)}
    assert len(ollama.requests) == 1


@pytest.mark.parametrize("path", ["/ü", "/a b", "/%zz", "/" + "x" * 5000])
def test_no_path_disturbs_the_others(fetcher: Fetcher, fakes: FakeFleet, path: str) -> None:
    host = fakes.scripted(ACTIVE["404"])
    found = services(fetcher, a_service(host.port, "odd", path), a_service(host.port, "good"))
    assert found["good"].status is ServiceStatus.ACTIVE
    assert set(found) == {"odd", "good"}
