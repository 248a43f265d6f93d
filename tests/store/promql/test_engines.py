"""What the real engines do with what is sent: nothing is lost, and nothing stops the rest."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from machines_server.core.past.metrics import METRICS
from machines_server.core.sample import HostSample
from machines_server.errors import TooMuchError
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.promql.writer import HistoryWriter
from machines_server.store.values import SeriesKey
from tests.fakes import wait_until
from tests.store.polls import LLAMA, answered, listed, sample
from tests.store.promql.engines import MAKERS, OUT_OF_ORDER, Engine, prometheus, victoria_metrics

NOW = int(time.time()) - 3600
"""Old enough for every query, and young enough for every engine."""


@pytest.fixture(params=sorted(MAKERS))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with MAKERS[request.param](tmp_path / "engine") as found:
        yield found


def writer_of(engine: Engine, batch_samples: int = 10_000) -> HistoryWriter:
    return HistoryWriter(engine.write_url, max_pause_s=0.2, batch_samples=batch_samples)


def put(writer: HistoryWriter, *ats: float) -> None:
    for at in ats:
        writer.put(sample(answered(at, HostSample(cpu_percent=1.5))), "lab")


def wait_for_samples(engine: Engine, number: int, at: float = NOW + 600, span_s: int = 3000) -> None:
    engine.flush()
    wait_until(lambda: len(engine.samples("machines_up", at, span_s)) == number)


def all_sent(writer: HistoryWriter) -> None:
    wait_until(lambda: writer.counts().waiting == 0)


def test_samples_arrive_with_their_labels_values_and_stamps(engine: Engine) -> None:
    writer = writer_of(engine)
    writer.put(sample(answered(NOW + 0.129), listed(NOW, LLAMA)), "lab")
    assert writer.close()
    wait_for_samples(engine, 1)
    assert engine.samples("machines_cpu_percent", NOW + 60, 120) == [(NOW + 0.12, 12.4)]
    span = {"start": NOW - 60, "end": NOW + 60}
    assert engine.labels("machines_vram_used_bytes", **span) == [
        {"__name__": "machines_vram_used_bytes", "machine": "one", "site": "lab", "gpu": "GPU-a"}
    ]
    assert engine.labels("machines_gpu_info", **span) == [
        {"__name__": "machines_gpu_info", "machine": "one", "site": "lab", "gpu": "GPU-a"}
        | {"index": "0", "model": "card"}
    ]
    assert engine.labels("machines_model_vram_bytes", **span) == [
        {"__name__": "machines_model_vram_bytes", "machine": "one", "site": "lab", "model": "llama3.1:70b"}
    ]
    writer.close()


def test_what_has_ended_is_gone_at_once(engine: Engine) -> None:
    writer = writer_of(engine)
    writer.put(sample(answered(NOW), listed(NOW, LLAMA)))
    writer.put(sample(answered(NOW + 5), listed(NOW + 5)))
    writer.remove("one", NOW + 10)
    assert writer.close()
    wait_for_samples(engine, 2)
    held = "last_over_time(machines_model_vram_bytes[1h])"
    wait_until(lambda: engine.value(held, NOW + 60) == 42)
    assert engine.value("machines_model_vram_bytes", NOW + 4) == 42
    assert engine.value("machines_model_vram_bytes", NOW + 6) is None
    assert engine.value("machines_up", NOW + 9) == 1
    assert engine.value("machines_up", NOW + 11) is None


def test_an_engine_that_is_restarted_loses_nothing(engine: Engine) -> None:
    writer = writer_of(engine, batch_samples=100)
    put(writer, *(NOW + at for at in range(100)))
    all_sent(writer)
    engine.__exit__(None, None, None)
    put(writer, *(NOW + at for at in range(100, 400)))
    wait_until(lambda: writer.fault() or "")
    engine.__enter__()
    all_sent(writer)
    wait_for_samples(engine, 400)
    assert writer.counts().dropped == {}
    assert writer.close()


def test_what_victoria_metrics_gets_twice_or_late_is_no_trouble(tmp_path: Path) -> None:
    with victoria_metrics(tmp_path / "engine") as engine:
        for _ in range(2):
            writer = writer_of(engine)
            put(writer, NOW + 10, NOW + 20, NOW)
            assert writer.close()
            assert writer.counts().dropped == {}
        wait_for_samples(engine, 3)


def test_prometheus_refuses_one_duplicate_and_takes_the_rest(tmp_path: Path) -> None:
    with prometheus(tmp_path / "engine") as engine:
        writer = writer_of(engine)
        put(writer, NOW)
        all_sent(writer)
        other = writer_of(engine)
        other.put(sample(answered(NOW, HostSample(cpu_percent=2.5))), "lab")
        put(other, *(NOW + at for at in range(1, 200)))
        all_sent(other)
        wait_for_samples(engine, 200)
        assert other.counts().dropped == {"duplicate": 1}
        assert engine.samples("machines_cpu_percent", NOW + 0.5, 10) == [(NOW, 1.5)]
        assert "HTTP status 400 (duplicate)" in (other.fault() or "")
        assert writer.close()
        assert other.close()


@pytest.mark.parametrize("window", ["", "storage: {tsdb: {out_of_order_time_window: 5m}}\n"])
def test_prometheus_refuses_what_is_too_old_and_takes_what_follows(tmp_path: Path, window: str) -> None:
    with prometheus(tmp_path / "engine", window) as engine:
        writer = writer_of(engine, batch_samples=100)
        put(writer, NOW)
        all_sent(writer)
        other = writer_of(engine, batch_samples=100)
        put(other, *(NOW - 3600 + at for at in range(100)))
        put(other, *(NOW + at for at in range(1, 100)))
        all_sent(other)
        dropped = other.counts().dropped
        # Where tries run out, good samples of the same batch are lost with the old ones.
        assert 300 <= sum(dropped.values()) < 400
        assert set(dropped) <= {"too_old", "out_of_order"}
        wait_for_samples(engine, 1 + (600 - 3 - sum(dropped.values())) // 3)
        assert writer.close()
        assert other.close()


def test_a_poller_that_takes_over_may_overlap_with_the_one_before(tmp_path: Path) -> None:
    with prometheus(tmp_path / "engine") as engine:
        before, after = writer_of(engine), writer_of(engine)
        put(after, NOW + 5, NOW + 10)
        all_sent(after)
        put(before, NOW + 2, NOW + 7)
        all_sent(before)
        wait_for_samples(engine, 4)
        assert before.counts().dropped == after.counts().dropped == {}
        assert before.close()
        assert after.close()


def test_an_engine_whose_limit_is_reached_says_that_it_would_be_too_much(tmp_path: Path) -> None:
    limited = (
        prometheus(tmp_path / "prometheus", OUT_OF_ORDER, "--query.max-samples=50"),
        victoria_metrics(tmp_path / "victoria-metrics", "-search.maxSamplesPerQuery=50"),
    )
    for engine in limited:
        with engine:
            writer = writer_of(engine)
            put(writer, *(NOW + at for at in range(200)))
            assert writer.close()
            engine.flush()
            series, from_s = PromqlSeries(engine.url), NOW // 600 * 600
            with pytest.raises(TooMuchError, match="ask for a shorter span or fewer series"):
                series.series([SeriesKey("one", METRICS["up"])], from_s, from_s + 1200, 600)
            series.close()
