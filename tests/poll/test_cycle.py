"""All endpoints of all machines, polled once: results as they come, and a sample when a machine is done."""

import time
from email.utils import formatdate
from typing import Any

import pytest

from machines_server.core.machine import Endpoint, Machine
from machines_server.core.sample import GpuSample, PollResult, Sample, State
from machines_server.poll.cycle import AnswerReader, OwnFault, Polled, poll_all
from machines_server.poll.fetch import Fetcher
from machines_server.runtimes.base import Reading
from tests.bodies import gpu_body, http, ollama_body, sidecar_body
from tests.core.machines import a_machine
from tests.fakes import FakeEndpoint, FakeFleet
from tests.poll.fetching import TIMEOUT_S, results
from tests.ports import free_port
from tests.scripts import CHUNKED, OK, say


def at(name: str, sidecar: FakeEndpoint | None, ollama: FakeEndpoint | None, **changes: Any) -> Machine:
    """A machine with these endpoints; None declares that there is none."""
    return a_machine(
        name,
        sidecar_port=sidecar.port if sidecar else 3039,
        port=ollama.port if ollama else 11434,
        has_sidecar=sidecar is not None,
        has_ollama=ollama is not None,
        **changes,
    )


def polled(machines: list[Machine], fetcher: Fetcher) -> list[Polled]:
    """All that came, in its order, from a cycle in which this process was not starved by others."""
    came: list[Polled] = []
    for _ in range(5):
        came = [one for one in poll_all(machines, fetcher, AnswerReader()) if one is not None]
        if not any(isinstance(one, OwnFault) for one in came):
            break
    return came


def test_a_machine_that_answers_gives_two_results_and_then_a_sample(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    machine = at("one", fakes.sidecar(gpu_body(0, used_gb=6)), fakes.ollama("phi3:mini"))
    before = time.time()
    came = polled([machine], fetcher)
    after = time.time()
    assert [type(one) for one in came] == [PollResult, PollResult, Sample]
    by_endpoint = {endpoint: one for (_, endpoint), one in results(came).items()}
    assert came[2] == Sample("one", by_endpoint)
    for endpoint, one in by_endpoint.items():
        assert (one.state, one.reason, one.endpoint) == (State.OK, None, machine.endpoints[endpoint])
        assert before <= one.at <= after
        assert 0 < one.took_s < TIMEOUT_S
    host, models = by_endpoint["sidecar"].answer, by_endpoint["ollama"].answer
    assert host
    assert host.host
    assert [type(gpu) for gpu in host.host.gpu] == [GpuSample]
    assert models
    assert [model.model for model in models.models or ()] == ["phi3:mini"]


def test_each_endpoint_is_asked_for_its_own_page(fetcher: Fetcher, fakes: FakeFleet) -> None:
    sidecar, ollama = fakes.sidecar(), fakes.ollama()
    polled([at("one", sidecar, ollama)], fetcher)
    assert sidecar.requests[0].startswith(b"GET /metrics HTTP/1.1\r\n")
    assert ollama.requests[0].startswith(b"GET /api/ps HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (None, State.BUSY, "no answer within 0.5 s on an open connection"),
        (http(b"", "500 Oops"), State.ERROR, "HTTP status 500"),
        (http(b"<html>"), State.ERROR, "HTML, not JSON"),
        (http(b"{}"), State.ERROR, "models: missing; is this an Ollama?"),
        (http(sidecar_body()), State.ERROR, "models: missing; is this an Ollama?"),
        (http(b'{"models": {"m": 1}}'), State.ERROR, "models: not a list of objects"),
        (b"SSH-2.0\r\n\r\n", State.ERROR, "not an HTTP answer"),
    ],
)
def test_an_endpoint_that_does_not_say_what_was_asked_has_a_state_and_a_reason(
    fetcher: Fetcher, fakes: FakeFleet, answer: bytes | None, state: State, reason: str
) -> None:
    came = polled([at("one", fakes.sidecar(), fakes.listen(answer))], fetcher)
    ollama = results(came)["one", "ollama"]
    assert (ollama.state, ollama.reason, ollama.answer) == (state, reason, None)
    assert results(came)["one", "sidecar"].state is State.OK
    assert isinstance(came[-1], Sample)
    assert came[-1].up


def test_a_machine_that_refuses_still_gives_a_sample_which_is_not_up(fetcher: Fetcher) -> None:
    machine = a_machine(port=free_port(), sidecar_port=free_port())
    came = polled([machine], fetcher)
    assert {one.state for one in results(came).values()} == {State.UNREACHABLE}
    assert {one.reason for one in results(came).values()} == {"connection refused"}
    assert isinstance(came[2], Sample)
    assert not came[2].up


def test_one_endpoint_is_enough_for_a_sample_if_no_other_is_declared(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    machines = [at("one", fakes.sidecar(), None), at("two", None, fakes.ollama())]
    came = polled(machines, fetcher)
    assert sorted(results(came)) == [("one", "sidecar"), ("two", "ollama")]
    assert sorted(one.machine for one in came if isinstance(one, Sample)) == ["one", "two"]


def test_a_machine_without_endpoints_is_passed_over(fetcher: Fetcher, fakes: FakeFleet) -> None:
    nothing = at("nothing", None, None)
    assert polled([nothing], fetcher) == []
    came = polled([nothing, at("one", fakes.sidecar(), None)], fetcher)
    assert {one.machine for one in came} == {"one"}
    assert list(poll_all([], fetcher, AnswerReader())) == []


def test_two_machines_of_one_address_share_one_request(fetcher: Fetcher, fakes: FakeFleet) -> None:
    sidecar, ollama = fakes.sidecar(), fakes.ollama("m")
    came = [
        one
        for one in poll_all([at(name, sidecar, ollama) for name in ("one", "two")], fetcher, AnswerReader())
        if one
    ]
    assert len(sidecar.requests) == len(ollama.requests) == 1
    assert sorted(results(came)) == [
        *(("one", "ollama"), ("one", "sidecar"), ("two", "ollama"), ("two", "sidecar"))
    ]
    assert sorted(one.machine for one in came if isinstance(one, Sample)) == ["one", "two"]


def test_what_a_quick_host_says_is_there_before_a_slow_one_is_given_up(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    quick, slow = (
        at("quick", fakes.sidecar(), fakes.ollama()),
        at("slow", fakes.sidecar(), fakes.listen(None)),
    )
    came = polled([slow, quick], fetcher)
    order = [(type(one).__name__, one.machine) for one in came]
    assert order.index(("Sample", "quick")) < order.index(("Sample", "slow"))
    assert order[-2:] == [("PollResult", "slow"), ("Sample", "slow")]


def test_what_we_could_not_ask_is_a_fault_of_ours_and_makes_no_sample(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    machine = at("one", fakes.sidecar(), fakes.listen(None))
    came: list[Polled] = []
    for one in poll_all([machine], fetcher, AnswerReader()):
        if one is not None:
            came.append(one)
        if len(came) == 1:
            time.sleep(TIMEOUT_S + 0.6)  # a caller that is stopped
    assert [type(one) for one in came] == [PollResult, OwnFault]
    assert came[1] == OwnFault(
        "one", machine.endpoints["ollama"], "this server did not run in time to read the answer"
    )
    assert isinstance(polled([machine], fetcher)[-1], Sample)


def test_cycles_can_follow_each_other_while_machines_come_go_and_move(
    fetcher: Fetcher, fakes: FakeFleet
) -> None:
    old, new = fakes.ollama("m"), fakes.ollama("m")
    for machines in ([], [at("one", None, old)], [at("one", None, new)], [], [at("one", None, old)]):
        came = polled(machines, fetcher)
        assert [one.endpoint for one in results(came).values()] == [
            one.endpoints["ollama"] for one in machines
        ]
        assert {one.state for one in results(came).values()} <= {State.OK}


def test_what_is_odd_in_an_answer_is_said_with_it_and_logged_once_per_change(
    fetcher: Fetcher, fakes: FakeFleet, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar, ollama = fakes.sidecar(), fakes.ollama()
    machine, answers = at("one", sidecar, ollama), AnswerReader()

    def poll(gpu: dict[str, Any], model: dict[str, Any]) -> dict[str, PollResult]:
        sidecar.answer = http(sidecar_body(gpu_body(0, used_gb=1, **gpu)))
        ollama.answer = http(ollama_body("m", **model))
        came = [one for one in poll_all([machine], fetcher, answers) if isinstance(one, PollResult)]
        assert {one.state for one in came} == {State.OK}
        return {one.endpoint.kind: one for one in came}

    for watts in (4294967, 4294966, 4294967):
        found = poll({"power_w": watts}, {"size": -1})
        assert (
            found["sidecar"].reason
            == f"invalid, so shown as unknown: gpu[0].power_w: {watts} is out of range"
        )
        assert found["ollama"].reason == "invalid, so shown as unknown: m: size: -1 is out of range"
    assert len(caplog.records) == 2
    poll({"power_w": 4294967, "utilisation": 101}, {"size": -1})
    assert len(caplog.records) == 3
    found = poll({}, {})
    assert (found["sidecar"].reason, found["ollama"].reason) == (None, None)
    poll({}, {"size": 4.5})
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4


@pytest.mark.parametrize(
    ("header", "ahead_s"),
    [
        ("", None),
        ("Date: no date\r\n", None),
        ("Date: Tue, 24 Nov 9999999 17:00:00 GMT\r\n", None),
        ("Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n", None),
        ("Date: " + "9" * 10_000 + "\r\n", None),
        ("Date: \xff\r\n", None),
        ("date: {now}\r\n", 0),
        ("Date: {hour_ahead}\r\n", 3600),
    ],
)
def test_how_far_the_clock_of_a_host_is_ahead_is_told_by_the_date_of_its_answer(
    fakes: FakeFleet, fetcher: Fetcher, header: str, ahead_s: float | None
) -> None:
    now = time.time()
    line = header.format(now=formatdate(now, usegmt=True), hour_ahead=formatdate(now + 3600, usegmt=True))
    body = ollama_body("m")
    head = f"HTTP/1.1 200 OK\r\n{line}Content-Length: {len(body)}\r\n\r\n"
    ollama = fakes.listen(head.encode("latin-1") + body)
    (result,) = [one for one in polled([at("one", None, ollama)], fetcher) if isinstance(one, PollResult)]
    assert result.answer
    assert result.clock_ahead_s == (ahead_s if not ahead_s else pytest.approx(ahead_s, abs=5))


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Transfer-Encoding: a\xffb\r\n\r\n",
        OK + b"Transfer-Encoding: \xc3\x28\r\nDate: \xff\r\n\r\n{}",
        b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
        b"\xff" * 100,
        CHUNKED + b"2\r\n{}\r\n0\r\nTrailer: \xff\r\n\r\n",
    ],
    ids=ascii,
)
def test_bytes_that_are_no_text_are_the_fault_of_their_host_alone(
    fetcher: Fetcher, fakes: FakeFleet, answer: bytes
) -> None:
    bad, worse = fakes.scripted(say(answer)), fakes.scripted(say(answer))
    machines = [at("bad", bad, worse), at("good", fakes.sidecar(), fakes.ollama("m"))]
    for _ in range(2):
        came = polled(machines, fetcher)
        assert {one.machine for one in came if isinstance(one, Sample)} == {"bad", "good"}
        states = {key: one.state for key, one in results(came).items()}
        assert states["good", "sidecar"] is states["good", "ollama"] is State.OK
        assert states["bad", "sidecar"] is states["bad", "ollama"] is State.ERROR
        assert all((one.reason or "").isprintable() for one in results(came).values())


def test_an_answer_whose_reading_fails_is_its_hosts_own_state_and_logged_once(
    fetcher: Fetcher, fakes: FakeFleet, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = at("bad", None, fakes.ollama("odd")), at("good", None, fakes.ollama("m"))

    class Failing(AnswerReader):
        def read(self, endpoint: Endpoint, url: str, body: bytes) -> Reading:
            if b"odd" in body:
                raise ZeroDivisionError("nobody foresaw it")
            return super().read(endpoint, url, body)

    for _ in range(3):
        came = [one for one in poll_all([bad, good], fetcher, Failing()) if one]
        found = results(came)
        assert found["good", "ollama"].state is State.OK
        assert found["bad", "ollama"].state is State.ERROR
        assert found["bad", "ollama"].reason == "this server failed to read its answer; its log says why"
    (record,) = caplog.records
    assert record.exc_info
