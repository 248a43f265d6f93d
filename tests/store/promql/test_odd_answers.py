"""An engine that is away, slow or lies costs one plain sentence, and never a wrong value."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from machines_server.core.access import Access
from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS, METRICS
from machines_server.core.past.rollup import Fold
from machines_server.core.reasons import Reason
from machines_server.credentials.content import authorization
from machines_server.errors import EngineError, NoAccessError, StoreError, TooMuchError
from machines_server.store.promql.expressions import PART, PART_LETTERS, queries
from machines_server.store.promql.folds import Buckets, FoundSeries, folds_of
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.values import SeriesKey
from tests.certificates import authority, signed
from tests.store.promql.fake_engine import Asked, FakeEngine, Said

FROM, TO, STEP = 1_700_000_000 // 600 * 600, 1_700_000_000 // 600 * 600 + 3600, 600
KEY = SeriesKey("one", METRICS["cpu_percent"])
RIGHT = [[(FROM + 600, Fold(2, 3000, 1000, 2000))]]


def answer(at: Any = FROM + 1199.999, **changes: Any) -> dict[str, Any]:
    """A good answer for KEY, with one bucket; `changes` are values of its parts, None leaves one out."""
    parts = {"n0": "2", "s0": "3", "l0": "1", "h0": "2"} | changes
    result = [
        {"metric": {"machine": "one", "machines_part": part}, "values": [[at, value]]}
        for part, value in parts.items()
        if value is not None
    ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def said(content: Any, status: int = 200) -> Callable[[Asked], Said]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda _: Said(status, body)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as found:
        yield found


def ask(engine: FakeEngine, **options: Any) -> Any:
    series = PromqlSeries(options.pop("url", engine.url), **options)
    try:
        return series.series([KEY], FROM, TO, STEP)
    finally:
        series.close()


def test_a_good_answer_is_read(engine: FakeEngine) -> None:
    engine.answer = said(answer())
    assert ask(engine) == RIGHT
    asked = engine.asked[-1]
    assert asked.path == "/api/v1/query_range"
    form = parse_qs(asked.body.decode())
    assert form["start"] == [f"{FROM + 599}.999"]
    assert form["end"] == [f"{TO - 1}.999"]
    assert form["nocache"] == ["1"]


def is_metricsql(asked: Asked) -> bool:
    return b"aggr_over_time" in asked.body


@pytest.mark.parametrize("status", [400, 422, 500, 501])
def test_an_engine_that_only_understands_promql_is_asked_in_that(engine: FakeEngine, status: int) -> None:
    refuse, answer_it = said({"status": "error", "error": "unknown function"}, status), said(answer())
    engine.asked.clear()
    engine.answer = lambda asked: (refuse if is_metricsql(asked) else answer_it)(asked)
    series = PromqlSeries(engine.url)
    assert [series.series([KEY], FROM, TO, STEP) for _ in range(3)] == [RIGHT] * 3
    assert [is_metricsql(asked) for asked in engine.asked] == [True, False, False, False]
    series.close()


@pytest.mark.parametrize("error", ["exceeded maximum resolution of 11,000 points per timeseries", "odd"])
def test_an_engine_that_refuses_a_question_in_any_words_is_asked_in_metricsql_again(
    engine: FakeEngine, error: str
) -> None:
    engine.answer = said({"status": "error", "error": error}, 422)
    series = PromqlSeries(engine.url)
    with pytest.raises((EngineError, TooMuchError)):
        series.series([KEY], FROM, TO, STEP)
    engine.answer = said(answer())
    engine.asked.clear()
    assert series.series([KEY], FROM, TO, STEP) == RIGHT
    assert [is_metricsql(asked) for asked in engine.asked] == [True]
    series.close()


def test_a_question_that_is_too_much_is_said_so_if_the_engine_is_gone_then(engine: FakeEngine) -> None:
    too_much = said({"status": "error", "error": "the query exceeds maxSamplesPerQuery"}, 422)
    engine.answer = lambda asked: too_much(asked) if is_metricsql(asked) else Said(502)
    with pytest.raises(TooMuchError):
        ask(engine)


def test_a_series_that_two_selectors_of_a_query_find_counts_once() -> None:
    found = [
        FoundSeries({"machine": "one", "gpu": "g", PART: f"{letter}{number}"}, [(FROM + 599.999, "2")])
        for number in range(2)
        for letter in PART_LETTERS
    ]
    vram = METRICS["vram_used_gb"]
    points = folds_of(found, [vram, vram], Buckets(FROM, TO, STEP))
    assert points == {SeriesKey("one", vram, "g"): [(FROM, Fold(2, 2, 2, 2))]}


def test_a_bucket_whose_first_sample_has_just_come_is_left_out(engine: FakeEngine) -> None:
    engine.answer = said(answer(h0=None))
    assert ask(engine) == [[]]


ODD: dict[str, Any] = {
    "nothing": b"",
    "html": b"<html>secret</html>",
    "a list": [],
    "no data": {"status": "success"},
    "a text as result": {"data": {"result": "secret"}},
    "a vector": {"data": {"result": [{"metric": {}, "value": [1, "1"]}]}},
    "a value that is a number": {"data": {"result": [{"metric": {}, "values": [[1, 1]]}]}},
    "labels that are none": {"data": {"result": [{"metric": {"a": 1}, "values": []}]}},
    "a part that nobody asked for": {"data": {"result": [{"metric": {"machines_part": "n7"}, "values": []}]}},
    "no part": {"data": {"result": [{"metric": {"machine": "one"}, "values": []}]}},
    "a part with a strange number": {"data": {"result": [{"metric": {"machines_part": "n²"}, "values": []}]}},
    "no number": answer(n0="secret"),
    "half a count": answer(n0="1.5"),
    "no count": answer(n0="0"),
    "not finite": answer(n0="+Inf"),
    "not a number": answer(s0="NaN"),
    "an endless sum": answer(s0="-Inf"),
    "another time": answer(FROM + 1200.0),
    "another bucket": answer(FROM + 1100.999),
    "before the range": answer(FROM - 0.001),
    "after the range": answer(TO + 599.999),
    "an endless time": answer(1e300),
    "deep nesting": b'{"data":' + b"[" * 100_000,
    "no text": b'{"data":{"result":[{"metric":{"a":"\xff"},"values":[]}]}}',
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_an_answer_that_is_not_to_the_question_is_an_error(engine: FakeEngine, content: Any) -> None:
    engine.answer = said(content)
    with pytest.raises(StoreError, match="its answer is not in Prometheus's format") as error:
        ask(engine)
    assert "secret" not in str(error.value)


KEYS = st.sampled_from(["data", "result", "metric", "values", "machines_part"])
JSON = st.recursive(
    st.none() | st.text() | st.floats() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(JSON)
def test_any_json_is_an_error_or_nothing(engine: FakeEngine, content: Any) -> None:
    engine.answer = said(content)
    with suppress(StoreError):
        assert ask(engine) == [[]]


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (500, b"secret", "HTTP status 500"),
        (401, b"secret", "HTTP status 401"),
        (302, b"secret", "HTTP status 302"),
        (422, b'{"errorType":"execution","error":"secret"}', "HTTP status 422"),
        (503, b'{"errorType":"timeout","error":"secret"}', "did not finish within 15 s"),
    ],
)
def test_an_error_of_the_engine_is_told_without_its_words(
    engine: FakeEngine, status: int, body: bytes, why: str
) -> None:
    engine.answer = said(body, status)
    with pytest.raises(StoreError, match=why) as error:
        ask(engine)
    assert "secret" not in str(error.value)
    assert str(error.value).startswith(f"The history engine at {engine.url} ")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (422, "query processing would load too many samples into memory in query execution"),
        (422, "the number of matching timeseries exceeds 300000"),
        (400, "exceeded maximum resolution of 11,000 points per timeseries"),
    ],
)
def test_a_question_that_is_too_large_for_the_engine_is_told(
    engine: FakeEngine, status: int, text: str
) -> None:
    engine.answer = said({"status": "error", "error": text}, status)
    with pytest.raises(TooMuchError, match="ask for a shorter span"):
        ask(engine)


MISSED_CHUNK = "cannot populate chunk 486539265 from block 00000000000000000000000000: not found"


def test_a_question_that_meets_a_compaction_is_asked_again(engine: FakeEngine) -> None:
    said_next = iter([said({"error": MISSED_CHUNK}, 422), said({"error": MISSED_CHUNK}, 422)])
    engine.answer = lambda asked: next(said_next, said(answer()))(asked)
    assert ask(engine) == RIGHT


def test_a_question_is_not_asked_again_for_ever(engine: FakeEngine) -> None:
    engine.answer = said({"error": MISSED_CHUNK}, 422)
    engine.asked.clear()
    with pytest.raises(EngineError, match="HTTP status 422"):
        ask(engine)
    assert len(engine.asked) == 12


def test_an_answer_is_limited_in_size(engine: FakeEngine) -> None:
    engine.answer = said(b" " * 2**20 + json.dumps(answer()).encode())
    assert ask(engine) == RIGHT
    with pytest.raises(TooMuchError, match="over 1 MiB"):
        ask(engine, max_answer_bytes=2**20)


def test_a_part_of_the_data_is_no_answer(engine: FakeEngine) -> None:
    engine.answer = said(answer() | {"isPartial": True})
    with pytest.raises(StoreError, match="only part of the data"):
        ask(engine)


def test_an_engine_that_is_away_is_told_until_it_is_back() -> None:
    with FakeEngine(said(answer())) as engine:
        series = PromqlSeries(engine.url)
        assert series.series([KEY], FROM, TO, STEP) == RIGHT
    with pytest.raises(StoreError, match=r"does not answer: connection refused\.$"):
        series.series([KEY], FROM, TO, STEP)
    assert "connection refused" in (series.fault() or "")
    engine.__enter__()
    assert series.series([KEY], FROM, TO, STEP) == RIGHT
    assert series.fault() is None
    engine.__exit__(None, None, None)
    series.close()


def test_an_engine_that_is_slow_is_left_after_the_time_limit(engine: FakeEngine) -> None:
    until = threading.Event()

    def wait(_: Asked) -> Said:
        until.wait(60)
        return Said(503)

    engine.answer = wait
    with pytest.raises(StoreError, match=r"no answer within 0\.\d+ s"):
        ask(engine, timeout_s=0.3)
    until.set()


def test_a_name_that_cannot_be_resolved_is_told(engine: FakeEngine) -> None:
    with pytest.raises(StoreError, match="its name cannot be resolved"):
        ask(engine, url="http://nobody.invalid:1")


def test_a_new_credential_takes_effect_and_no_message_shows_one(engine: FakeEngine) -> None:
    credential = [b"user:old-secret"]
    wanted = authorization(b"user:new-secret")
    good = said(answer())
    engine.answer = lambda asked: good(asked) if asked.headers.get("Authorization") == wanted else Said(401)
    series = PromqlSeries(engine.url, lambda: Access(authorization(credential[0])))
    with pytest.raises(StoreError, match="HTTP status 401") as error:
        series.series([KEY], FROM, TO, STEP)
    assert "secret" not in str(error.value)
    credential[0] = b"user:new-secret"
    assert series.series([KEY], FROM, TO, STEP) == RIGHT
    series.close()


def test_a_credential_that_cannot_be_read_is_told(engine: FakeEngine) -> None:
    def access() -> Access:
        raise NoAccessError(Reason("skipped, since the credential a cannot be used: it is empty"), "", "")

    with pytest.raises(StoreError, match="skipped, since the credential a cannot be used"):
        ask(engine, access=access)


def test_an_engine_must_have_a_certificate_of_an_authority_that_is_trusted(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    with FakeEngine(said(answer()), tls=signed(tmp_path, ours, "IP:127.0.0.1")) as engine:
        with pytest.raises(StoreError, match="not issued by a CA that is trusted here"):
            ask(engine)
        assert engine.asked == []
        assert ask(engine, access=lambda: Access(None, ours.read_bytes())) == RIGHT


def test_a_page_of_a_machine_takes_a_request_or_two() -> None:
    gpus = [f"GPU-00000000-1234-5678-9abc-{number:012d}" for number in range(8)]
    wanted = [SeriesKey("workstation", metric) for metric in MACHINE_METRICS]
    wanted += [SeriesKey("workstation", metric, gpu) for gpu in gpus for metric in GPU_METRICS]
    for is_metricsql in (False, True):
        found = list(queries(wanted, 1800, 0, is_metricsql=is_metricsql))
        assert len(found) <= 2
        assert all(len(one.text.encode()) < 16_384 for one in found)


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200)), max_size=60),
    st.booleans(),
)
def test_no_query_is_longer_than_engines_take(names: list[tuple[str, str]], is_metricsql: bool) -> None:
    vram = METRICS["vram_used_gb"]
    wanted = [SeriesKey(name, vram, gpu) for name, gpu in names] + [
        SeriesKey(name, KEY.metric) for name, _ in names
    ]
    found = list(queries(wanted, 60, 0, is_metricsql=is_metricsql))
    assert all(len(one.text.encode()) < 16_384 for one in found)
    assert {metric for one in found for metric in one.metrics} == {key.metric for key in wanted}
