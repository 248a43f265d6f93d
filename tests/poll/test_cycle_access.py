"""Endpoints that need a credential: each is polled with its own, and none without it."""

from dataclasses import replace

from machines_server.core.access import Access
from machines_server.core.machine import Endpoint
from machines_server.core.reasons import Reason
from machines_server.core.sample import Sample, State
from machines_server.errors import NoAccessError
from machines_server.poll.cycle import AnswerReader, OwnFault, poll_all
from machines_server.poll.fetch import Fetcher
from tests.core.machines import a_machine
from tests.fakes import FakeEndpoint, FakeFleet
from tests.poll.fetching import results
from tests.ports import free_port

CREDENTIALS = {"one": Access("Bearer one"), "two": Access("Bearer two")}


def access(endpoint: Endpoint) -> Access:
    """The credentials that there are."""
    try:
        return CREDENTIALS[endpoint.credential or ""]
    except KeyError:
        raise NoAccessError(
            Reason("there is no such credential"), "put it there", "network.credential"
        ) from None


def behind(proxy: FakeEndpoint, credential: str, prefix: str = "") -> Endpoint:
    return Endpoint("ollama", proxy.address, proxy.port, prefix=prefix, credential=credential)


def test_two_machines_at_one_url_are_asked_with_their_own_credentials(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    proxy = fakes.ollama("phi3:mini")
    machines = [
        a_machine(name, endpoints={"ollama": behind(proxy, name, "/ollama")}) for name in ("one", "two")
    ]
    for _ in range(2):  # over kept connections as well
        proxy.requests.clear()
        came = list(poll_all(machines, fetcher, AnswerReader(), access))
        assert len([one for one in came if isinstance(one, Sample)]) == 2
        sent = sorted(
            (request.split()[1], line)
            for request in proxy.requests
            for line in request.splitlines()
            if line.startswith(b"Authorization")
        )
        assert sent == [
            (b"/ollama/api/ps", f"Authorization: Bearer {name}".encode()) for name in ("one", "two")
        ]


def test_an_endpoint_whose_credential_cannot_be_used_is_not_asked_and_the_others_are(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    proxy, sidecar = fakes.ollama("phi3:mini"), fakes.sidecar()
    lost = behind(proxy, "lost")
    report = Endpoint("sidecar", sidecar.address, sidecar.port, reports_host=True)
    closed = replace(report, port=free_port())
    machines = [
        a_machine("both", endpoints={"sidecar": report, "ollama": lost}),
        a_machine("down", endpoints={"sidecar": closed, "ollama": lost}),
        a_machine("alone", endpoints={"ollama": lost}),
    ]
    came = [one for one in poll_all(machines, fetcher, AnswerReader(), access) if one]
    assert proxy.requests == []
    assert not [one for one in came if isinstance(one, OwnFault)]
    found = results(came)
    for machine in machines:
        one = found[machine.name, "ollama"]
        expected = (State.UNASKED, "there is no such credential", "put it there")
        assert (one.state, one.reason, one.hint) == expected
    # Of the others nothing is known, which is not the same as being down.
    assert [one.machine for one in came if isinstance(one, Sample)] == ["both"]
