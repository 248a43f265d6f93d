"""What is put arrives in order, waits within limits while it cannot, and never blocks anything forever."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machines_server.core.access import Access
from machines_server.core.reasons import Reason
from machines_server.core.sample import HostSample, Sample
from machines_server.credentials.content import authorization
from machines_server.errors import NoAccessError
from machines_server.store.promql.batches import MAX_HALVINGS, QueueLimits
from machines_server.store.promql.writer import HistoryWriter
from tests.certificates import authority, signed
from tests.fakes import wait_until
from tests.store.polls import answered, missed, sample
from tests.store.promql.fake_engine import Asked, FakeEngine, Said
from tests.store.promql.messages import Read, read_body

AT = 1_700_000_000
SERIES = 2
"""How many a machine has that does not answer."""


def away(at: float) -> Sample:
    return sample(missed(at))


def stamps(bodies: list[bytes]) -> list[int]:
    """The stamps of `machines_up`, in seconds, in the order in which they were sent."""
    found = [one for body in bodies for one in read_body(body)]
    return [one.at_ms // 1000 for one in found if one.labels["__name__"] == "machines_up"]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as found:
        yield found


def fault_of(writer: HistoryWriter) -> str:
    """What is wrong, as soon as something is."""
    return wait_until(lambda: writer.fault() or "")


Make = Callable[..., HistoryWriter]


@pytest.fixture
def make(engine: FakeEngine) -> Iterator[Make]:
    """Makes writers with small batches and short pauses, which are closed afterwards."""
    made = list[HistoryWriter]()

    def new(**options: object) -> HistoryWriter:
        given = {"batch_samples": 10, "max_pause_s": 0.05} | options
        url = str(given.pop("url", f"{engine.url}/api/v1/write"))
        made.append(HistoryWriter(url, **given))  # type: ignore[arg-type]  # a test passes what it needs
        return made[-1]

    yield new
    for one in made:
        one.close(0)


def put(writer: HistoryWriter, *seconds: int) -> None:
    for second in seconds:
        writer.put(away(AT + second))


def test_what_is_put_arrives_in_order_in_requests_of_a_limited_size(engine: FakeEngine, make: Make) -> None:
    writer = make()
    put(writer, *range(100))
    assert writer.close()
    assert stamps(engine.accepted) == [AT + second for second in range(100)]
    assert {len(read_body(one)) for one in engine.accepted} == {10}
    asked = engine.asked[0]
    assert asked.path == "/api/v1/write"
    assert asked.headers["Content-Type"] == "application/x-protobuf"
    assert asked.headers["Content-Encoding"] == "snappy"
    assert asked.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert "Authorization" not in asked.headers
    counts = writer.counts()
    assert (counts.waiting, counts.sent, counts.dropped) == (0, 200, {})
    assert writer.fault() is None


def test_a_few_samples_do_not_wait_for_more(engine: FakeEngine, make: Make) -> None:
    writer = make()
    put(writer, 0)
    wait_until(lambda: engine.accepted)
    wait_until(lambda: writer.counts().waiting == 0)
    assert writer.counts().sent == SERIES


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_an_engine_that_is_overloaded_gets_everything_later(
    engine: FakeEngine, make: Make, status: int
) -> None:
    engine.answer = lambda _: Said(status, b"busy")
    writer = make()
    put(writer, *range(20))
    fault = fault_of(writer)
    assert f"HTTP status {status}" in fault
    assert "40 samples wait" in fault
    engine.answer = lambda _: Said(200)
    wait_until(lambda: writer.counts().waiting == 0)
    assert stamps(engine.accepted) == [AT + second for second in range(20)]
    assert writer.counts().dropped == {}
    assert writer.fault() is None


def test_an_engine_that_wants_a_rest_gets_it(engine: FakeEngine, make: Make) -> None:
    at = list[float]()

    def rest_once(_: Asked) -> Said:
        at.append(time.monotonic())
        return Said(429, headers={"Retry-After": "1"}) if len(at) == 1 else Said()

    engine.answer = rest_once
    put(make(), 0)
    wait_until(lambda: len(at) > 1)
    assert at[1] - at[0] >= 1


def test_an_engine_that_is_away_gets_everything_when_it_is_back(engine: FakeEngine, make: Make) -> None:
    engine.__exit__(None, None, None)
    writer = make()
    put(writer, *range(100))
    fault = fault_of(writer)
    assert "connection refused; 200 samples wait" in fault
    engine.__enter__()
    wait_until(lambda: writer.counts().waiting == 0)
    assert stamps(engine.accepted) == [AT + second for second in range(100)]


def test_a_batch_that_is_refused_is_dropped_counted_and_followed_by_the_next(
    engine: FakeEngine, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answer = lambda asked: Said(400 if AT in stamps([asked.body]) else 204, b"out of order sample")
    writer = make(batch_samples=SERIES)
    with caplog.at_level(logging.WARNING):
        put(writer, 0, 1)
        wait_until(lambda: writer.counts().waiting == 0)
    assert stamps(engine.accepted) == [AT + 1]
    assert sum(writer.counts().dropped.values()) >= 1
    assert set(writer.counts().dropped) == {"out_of_order"}
    assert "HTTP status 400 (out_of_order)" in (writer.fault() or "")
    assert "samples for the history were refused" in caplog.text


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (400, b"duplicate sample for timestamp", "duplicate"),
        (422, b"whatever", "refused"),
        (413, b"", "too_large"),
        (500, b"too old sample\n", "too_old"),
        (500, b"out of bounds\n", "too_old"),
    ],
)
def test_what_can_never_be_taken_costs_few_requests(
    engine: FakeEngine, make: Make, status: int, text: bytes, reason: str
) -> None:
    engine.answer = lambda _: Said(status, text)
    writer = make(batch_samples=1000)
    put(writer, *range(2500))
    wait_until(lambda: writer.counts().dropped == {reason: 5000})
    assert len(engine.asked) <= 2 * MAX_HALVINGS + 5


def test_one_bad_sample_does_not_cost_the_others(engine: FakeEngine, make: Make) -> None:
    def refuse(asked: Asked) -> Said:
        is_bad = any(one.at_ms == (AT + 321) * 1000 for one in read_body(asked.body))
        return Said(400, b"duplicate sample for timestamp") if is_bad else Said()

    engine.answer = refuse
    writer = make(batch_samples=1000)
    put(writer, *range(500))
    wait_until(lambda: writer.counts().waiting == 0)
    assert writer.counts().dropped == {"duplicate": SERIES}
    assert stamps(engine.accepted) == [AT + second for second in range(500) if second != 321]


def test_a_batch_that_the_engine_chokes_on_does_not_stop_the_others_for_ever(
    engine: FakeEngine, make: Make
) -> None:
    engine.answer = lambda asked: Said(500 if AT + 3 in stamps([asked.body]) else 204, b"strange")
    writer = make(suspect_after_s=0.2)
    put(writer, *range(50))
    wait_until(lambda: writer.counts().waiting == 0)
    assert writer.counts().dropped == {"refused": 1}
    assert sorted(stamps(engine.accepted)) == [AT + second for second in range(50) if second != 3]


def test_while_an_engine_has_no_room_the_oldest_samples_make_way(engine: FakeEngine, make: Make) -> None:
    engine.answer = lambda _: Said(507)
    writer = make(limits=QueueLimits(samples=100), suspect_after_s=0.1)
    put(writer, *range(500))
    wait_until(lambda: len(engine.asked) > 10)
    counts = writer.counts()
    assert counts.waiting <= 110
    assert counts.dropped == {"full": 1000 - counts.waiting}
    engine.answer = lambda _: Said()
    wait_until(lambda: writer.counts().waiting == 0)
    assert stamps(engine.accepted)[-1] == AT + 499
    assert len(stamps(engine.accepted)) >= 45


def test_samples_that_wait_are_limited_in_bytes(engine: FakeEngine, make: Make) -> None:
    engine.answer = lambda _: Said(503)
    writer = make(limits=QueueLimits(bytes=2000))
    put(writer, *range(500))
    fault_of(writer)
    assert 0 < writer.counts().waiting_bytes <= 2000
    assert writer.counts().dropped["full"] > 0


def test_an_engine_that_is_slow_is_left_after_the_time_limit(engine: FakeEngine, make: Make) -> None:
    until = threading.Event()

    def wait(_: Asked) -> Said:
        until.wait(60)
        return Said(503)

    engine.answer = wait
    writer = make(timeout_s=0.2)
    put(writer, 0)
    assert "no answer within 0.2 s; 2 samples wait" in fault_of(writer)
    engine.answer = lambda _: Said()
    until.set()
    wait_until(lambda: writer.counts().waiting == 0)


def test_closing_gives_up_in_time_when_the_engine_is_silent(engine: FakeEngine, make: Make) -> None:
    until = threading.Event()

    def wait(_: Asked) -> Said:
        until.wait(60)
        return Said(503)

    engine.answer = wait
    writer = make(timeout_s=600)
    put(writer, 0)
    wait_until(lambda: engine.asked)
    assert not writer.close(0.2)
    assert writer.counts().waiting == SERIES
    until.set()


def test_a_new_credential_takes_effect_and_is_shown_nowhere(
    engine: FakeEngine, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    credential = [b"old-secret"]
    wanted = "Bearer new-secret"
    engine.answer = lambda asked: Said(204 if asked.headers.get("Authorization") == wanted else 401)
    with caplog.at_level(logging.DEBUG):
        writer = make(access=lambda: Access(authorization(credential[0])))
        put(writer, *range(20))
        fault = fault_of(writer)
        credential[0] = b"new-secret"
        wait_until(lambda: writer.counts().waiting == 0)
    assert "HTTP status 401" in fault
    assert writer.counts().dropped == {}
    assert "secret" not in fault + caplog.text


def test_a_credential_that_cannot_be_read_keeps_samples_waiting(engine: FakeEngine, make: Make) -> None:
    is_there = threading.Event()

    def access() -> Access:
        if not is_there.is_set():
            raise NoAccessError(Reason("skipped, since there is no such file"), "", "")
        return Access("Bearer a")

    writer = make(access=access)
    put(writer, 0)
    assert "there is no such file" in fault_of(writer)
    assert engine.asked == []
    is_there.set()
    wait_until(lambda: writer.counts().sent == SERIES)


def test_a_redirect_is_not_followed_and_the_credential_stays_here(engine: FakeEngine, make: Make) -> None:
    with FakeEngine() as other:
        engine.answer = lambda _: Said(307, headers={"Location": f"{other.url}/"})
        writer = make(access=lambda: Access("Bearer a"))
        put(writer, 0)
        assert "HTTP status 307" in fault_of(writer)
        assert other.asked == []


def test_the_password_of_a_url_is_not_shown(make: Make, engine: FakeEngine) -> None:
    engine.answer = lambda _: Said(503)
    writer = make(url=f"http://user:secret@127.0.0.1:{engine.port}/write?token=secret")
    put(writer, 0)
    assert f"to http://127.0.0.1:{engine.port}/write:" in fault_of(writer)
    assert "secret" not in (writer.fault() or "secret")


def test_an_engine_must_have_a_certificate_of_an_authority_that_is_trusted(
    make: Make, tmp_path: Path
) -> None:
    ours = authority(tmp_path)
    with FakeEngine(tls=signed(tmp_path, ours, "IP:127.0.0.1")) as engine:
        stranger = make(url=f"{engine.url}/write")
        put(stranger, 0)
        assert "not issued by a CA that is trusted here" in fault_of(stranger)
        assert engine.asked == []
        trusting = make(url=f"{engine.url}/write", access=lambda: Access(None, ours.read_bytes()))
        put(trusting, 0)
        wait_until(lambda: trusting.counts().sent == SERIES)


def test_a_machine_that_is_removed_ends_and_one_that_is_handed_over_goes_on(
    engine: FakeEngine, make: Make
) -> None:
    writer = make()
    put(writer, 0)
    writer.forget("one")
    writer.remove("one", AT + 5)
    put(writer, 10)
    writer.remove("one", AT + 15)
    assert writer.close()
    found: list[Read] = [one for body in engine.accepted for one in read_body(body)]
    assert [one.at_ms // 1000 - AT for one in found if one.value != one.value] == [15, 15]


def test_a_sample_that_is_no_sample_costs_only_itself(
    engine: FakeEngine, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    writer = make()
    put(writer, 0)
    writer.put(sample(answered(AT + 1, HostSample(cpu_percent=float("nan")))))
    put(writer, 2)
    assert writer.close()
    assert stamps(engine.accepted) == [AT, AT + 2]
    assert "a sample could not be added to the history" in caplog.text


def test_nothing_is_started_until_something_is_put(make: Make) -> None:
    before = threading.active_count()
    writer = make()
    assert threading.active_count() == before
    assert writer.close()
    put(writer, 0)
    assert writer.counts().waiting == 0
