"""Answers about the past read and hold a limited amount, and say how to ask for less."""

import csv
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from machines_server.core.past.availability import PolledTime, availability
from machines_server.core.past.metrics import METRICS
from machines_server.core.past.rollup import MAX_POINTS, MAX_POINTS_IN_ALL
from machines_server.core.sample import GpuSample, HostSample, Sample
from machines_server.errors import TooManyError, TooMuchError
from machines_server.store.sqlite.telemetry.event_pages import MAX_DETAIL_CHARACTERS
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.values import SeriesKey
from machines_server.web.concurrency import ConcurrencyLimit
from tests.core.machines import SIDECAR
from tests.store.polls import polled
from tests.store.sqlite.telemetry.database import START
from tests.web.past import Past

ALL = ",".join(METRICS)
GPUS = 8


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    """A machine with eight GPUs that was sampled for a few minutes."""
    past = Past(tmp_path)
    gpus = tuple(
        GpuSample(one, f"GPU-{one}", "card", "dedicated", 2**34, 2**33, 2**33) for one in range(GPUS)
    )
    for number in range(60):
        sidecar = polled(SIDECAR, past.now - 5 * number, HostSample(cpu_percent=1.0, gpu=gpus))
        past.database.writer.write([Sample("one", {"sidecar": sidecar})])
    yield past
    past.database.connection.close()


def series_of(answer: Any) -> int:
    return len(answer["series"])


@pytest.mark.parametrize("span", ["-1h", "-24h", "-6d", "-30d", "-365d", "-700d"])
def test_the_automatic_step_gives_all_metrics_of_a_machine_over_any_span(past: Past, span: str) -> None:
    answer = past.get(f"/api/machines/one/history?metric={ALL}&from={span}")
    assert series_of(answer) == len(METRICS) - 6 + 6 * GPUS
    assert answer["step_s"] == past.get(f"/api/machines/one/history?metric=up&from={span}")["step_s"]


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize(("span", "step"), [("-6d", 60), ("-47h", 20), ("-1h", 1), ("-29d", 600)])
def test_too_many_points_in_all_are_a_400_that_says_which_step_will_do(
    past: Past, span: str, step: int, form: str
) -> None:
    asked = f"/api/machines/one/history?metric={ALL}&from={span}&format={form}&step="
    refused = past.get(f"{asked}{step}", 400)
    assert refused["parameter"] == "step"
    words = refused["message"].split()
    will_do = words[words.index("use") + 1]
    assert past.client.get(f"{asked}{will_do}").status_code == 200
    most = MAX_POINTS_IN_ALL // (len(METRICS) - 6 + 6 * GPUS)
    assert f"more than {most}:" in refused["message"]


def test_one_series_may_have_as_many_points_as_ever(past: Past) -> None:
    whole = f"metric=up&from={past.now - MAX_POINTS + 2:.0f}&to={past.now:.0f}&step=1"
    assert past.get(f"/api/machines/one/history?{whole}")["step_s"] == 1
    assert past.get("/api/machines/one/history?metric=up&from=-11001s&step=1", 400)["parameter"] == "step"


def test_a_machine_that_had_very_many_gpus_is_asked_for_some_of_them(past: Past) -> None:
    rows = ((1, f"GPU-x{number}", number, "card", "dedicated") for number in range(100, 6000))
    past.database.connection.executemany(
        "INSERT INTO gpu (machine_id, uuid, position, model, memory_kind) VALUES (?, ?, ?, ?, ?)", rows
    )
    refused = past.get(f"/api/machines/one/history?metric={ALL}", 400)
    assert refused["parameter"] == "metric"
    assert "some GPUs" in refused["message"]
    assert (
        series_of(past.get(f"/api/machines/one/history?metric={ALL}&gpu=0,1,5000")) == len(METRICS) - 6 + 18
    )
    few = past.get("/api/machines/one/history?metric=power_w,temperature_c&from=-7d")
    assert series_of(few) == 2 * (GPUS + 5900)
    assert (7 * 86_400 / few["step_s"] + 1) * series_of(few) <= MAX_POINTS_IN_ALL


def test_csv_comes_whole(past: Past) -> None:
    response = past.client.get("/api/machines/one/history?metric=up,power_w&from=-1h&format=csv")
    assert response.headers["Content-Length"] == str(len(response.data))
    assert len({len(row) for row in csv.reader(io.StringIO(response.text))}) == 1


def test_a_question_that_reads_too_much_ends_and_the_next_is_answered(past: Past) -> None:
    reader = PastReader(past.database.path, max_instructions=5000)
    many = [SeriesKey("one", METRICS["up"])]
    with pytest.raises(TooMuchError, match="shorter span"):
        reader.series(many, 0, 2_000_000_000, 200_000)
    with pytest.raises(TooMuchError):
        reader.series(many, START, START + 10_000, 1)
    for _ in range(3):
        assert reader.series(many, START, START + 10, 1) == [[]]
        assert reader.machine("one") is not None
    reader.close()


def test_events_that_say_very_much_are_asked_for_with_a_lower_limit(past: Past) -> None:
    detail = f'{{"reason": "{"x" * 100_000}"}}'
    rows = (
        (round(past.now * 1000) - number, detail) for number in range(MAX_DETAIL_CHARACTERS // 100_000 + 1)
    )
    past.database.connection.executemany(
        "INSERT INTO event (at_ms, machine_id, type, detail) VALUES (?, 1, 'degraded', ?)", rows
    )
    refused = past.get("/api/events?limit=10000&type=degraded", 400)
    assert (refused["error"], "lower limit" in refused["message"]) == ("too_much", True)
    assert len(past.get("/api/events?limit=50&type=degraded,degraded")["events"]) == 50


def test_availability_of_a_machine_that_flaps_is_added_up_as_it_is_read(past: Past) -> None:
    count = 20_000
    rows = (
        (round((START + number) * 1000), "online" if number % 2 else "offline") for number in range(count)
    )
    past.database.connection.executemany(
        "INSERT INTO event (at_ms, machine_id, type, detail) VALUES (?, 1, ?, '{}')", rows
    )
    spans = (
        ((START + 10 * number) * 1000,) * 2 + ((START + 10 * number + 5) * 1000,)
        for number in range(count // 10)
    )
    past.database.connection.executemany(
        "INSERT INTO poll_span (started_at_ms, cycle_started_at_ms, ended_at_ms, interval_s, timeout_s)"
        " VALUES (?, ?, ?, 5, 2)",
        spans,
    )
    seconds = past.get(f"/api/machines/one/availability?from={START}&to={START + count}")["seconds"]
    assert seconds == {"online": 4000.0, "degraded": 0.0, "offline": 6000.0, "unknown": 10_000.0}


def test_spans_that_overlap_count_once() -> None:
    spans = [(0, 10), (5, 8), (20, 30), (9, 12), (30, 30), (31, 29)]
    found = availability([(2, "online"), (25, "offline")], PolledTime(spans), 0, 40)
    assert found.seconds == {"online": 15.0, "degraded": 0.0, "offline": 5.0, "unknown": 20.0}


def test_some_questions_run_some_wait_and_the_rest_are_refused() -> None:
    limit, going_on, may_end = (
        ConcurrencyLimit(running=2, waiting=3),
        threading.Semaphore(0),
        threading.Event(),
    )
    together, most, lock = 0, 0, threading.Lock()

    def ask(_: int) -> str:
        nonlocal together, most
        try:
            with limit.slot():
                with lock:
                    together += 1
                    most = max(most, together)
                going_on.release()
                may_end.wait(10)
                with lock:
                    together -= 1
        except TooManyError as error:
            going_on.release()
            return error.code
        return "answered"

    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(ask, number) for number in range(12)]
        for _ in range(2 + 7):  # those that run, and those that are refused
            assert going_on.acquire(timeout=10)
        may_end.set()
        told = [one.result() for one in asked]
    assert (told.count("answered"), told.count("too_many_questions"), most) == (5, 7, 2)
    assert ask(0) == "answered"


def test_a_question_that_fails_frees_its_slot() -> None:
    limit = ConcurrencyLimit(running=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limit.slot():
            _ = 1 / 0


@pytest.mark.parametrize("threads", [1, 2, 4, 8, 16, 256])
def test_a_quarter_of_the_threads_is_left_for_other_questions(threads: int) -> None:
    limit = ConcurrencyLimit.for_threads(threads)
    assert 1 <= limit.running + limit.waiting <= max(1, threads * 3 // 4)
