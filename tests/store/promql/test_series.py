"""Folds from the real engines are those of the samples that were sent, and those of SQLite."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import pytest

from machines_server.core.machine import Registry
from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS, METRICS
from machines_server.core.past.rollup import Fold, fold
from machines_server.core.sample import GpuSample, HostSample, PollResult, Sample, State
from machines_server.store.promql.message import Rows, compressed, label
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.promql.writer import HistoryWriter
from machines_server.store.values import SeriesKey
from tests.core.machines import SIDECAR, answer
from tests.store.contract.stores import SqliteStores
from tests.store.polls import machine
from tests.store.promql.engines import MAKERS, Engine

HOUR, DAY = 3600, 86_400
END = int(time.time()) // 7200 * 7200
START = END - 7 * DAY
CPU, RAM, UP, VRAM = METRICS["cpu_percent"], METRICS["ram_used_gb"], METRICS["up"], METRICS["vram_used_gb"]
LATE = "storage: {tsdb: {out_of_order_time_window: 1d}}\n"
Points = list[tuple[int, Fold]]


def of(name: str, at: float, host: HostSample | None) -> Sample:
    state = State.UNREACHABLE if host is None else State.OK
    reason = "why" if host is None else None
    return Sample(name, {"sidecar": PollResult(name, SIDECAR, state, at, 0.0123, reason, answer(host))})


def moments(from_s: float, to_s: float, seed: int) -> Iterator[float]:
    """Every 5 s with jitter and gaps; every third is on the full second, and so on bounds of buckets."""
    chance, at = random.Random(seed), from_s
    while at < to_s:
        yield at if chance.random() < 0.33 else round(at + chance.uniform(-0.5, 0.5), 3)
        at += 5 if chance.random() < 0.99 else 5 * chance.randrange(1, 100)


@cache
def week() -> list[Sample]:
    chance = random.Random(1)
    return [
        of("week", at, HostSample(chance.choice([None, chance.uniform(0, 100), chance.randrange(100)])))
        for at in moments(START, END, 2)
    ]


@cache
def half_day() -> list[Sample]:
    """A machine with two GPUs, one of which is not always there, and everything that can be measured."""
    chance, found = random.Random(3), []
    for at in moments(END - 12 * HOUR, END, 4):
        gpus = [
            GpuSample(number, f"GPU-{number}", "card", "dedicated")
            for number in range(chance.choice([1, 2, 2, 2]))
        ]
        for gpu in gpus:
            for one in GPU_METRICS:
                is_bytes = one.unit == "GiB"
                setattr(gpu, one.column, chance.randrange(2**36) if is_bytes else chance.uniform(0, 100))
        host = HostSample(gpu=tuple(gpus))
        for one in MACHINE_METRICS[2:]:
            is_bytes, is_known = one.unit == "GiB", chance.random() < 0.9
            value = chance.randrange(2**42) if is_bytes else chance.uniform(0, 1e6)
            setattr(host, one.column, value if is_known else None)
        found.append(of("one", at, host if chance.random() < 0.95 else None))
    return found


KEYS = [
    *(SeriesKey("one", metric) for metric in MACHINE_METRICS),
    *(SeriesKey("one", metric, f"GPU-{number}") for number in range(2) for metric in GPU_METRICS),
]


@pytest.fixture(scope="module", params=sorted(MAKERS))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has the week and the half day, and takes what belongs to the last day."""
    with MAKERS[request.param](tmp_path_factory.mktemp(request.param) / "engine", LATE) as found:
        send(found, *sorted([*week(), *half_day()], key=lambda one: one.at))
        yield found


def send(engine: Engine, *samples: Sample, site: str = "lab") -> None:
    writer = HistoryWriter(engine.write_url)
    for one in samples:
        writer.put(one, site)
    assert writer.close(60)
    assert writer.counts().dropped == {}
    engine.flush()


@pytest.fixture
def series(engine: Engine) -> Iterator[PromqlSeries]:
    found = PromqlSeries(engine.url, timeout_s=60)
    yield found
    found.close()


def expected(
    values: Mapping[float, int | None] | Mapping[int, int], from_s: int, to_s: int, step_s: int
) -> Points:
    """What is right, by the reference."""
    buckets: dict[int, list[int | None]] = {}
    for at, value in values.items():
        if from_s <= at < to_s:
            buckets.setdefault(int(at // step_s * step_s), []).append(value)
    folds = ((at, fold(some)) for at, some in sorted(buckets.items()))
    return [(at, found) for at, found in folds if found.n]


def cpu_of(one: Sample) -> int | None:
    result = one.host_result
    assert result is not None
    assert result.answer is not None
    assert result.answer.host is not None
    value = result.answer.host.cpu_percent
    return None if value is None else round(value * 1000)


@pytest.mark.parametrize("step_s", [1800, 300, 7200, DAY])
def test_a_week_of_samples_folds_exactly(series: PromqlSeries, step_s: int) -> None:
    from_s, to_s = (START + DAY) // step_s * step_s, END // step_s * step_s
    values = {one.at: cpu_of(one) for one in week()}
    cpu, up = series.series([SeriesKey("week", CPU), SeriesKey("week", UP)], from_s, to_s, step_s)
    right = expected(values, from_s, to_s, step_s)
    assert cpu == right
    assert sum(found.n for _, found in right) > 40_000
    assert up == expected(dict.fromkeys(values, 1), from_s, to_s, step_s)


def test_steps_of_seconds_fold_exactly(series: PromqlSeries) -> None:
    values = {one.at: cpu_of(one) for one in week()}
    for step_s, span_s in ((10, HOUR), (5, HOUR), (1, 600), (30, 6 * HOUR)):
        found = series.series([SeriesKey("week", CPU)], END - span_s, END, step_s)
        assert found == [expected(values, END - span_s, END, step_s)], step_s


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SqliteStores:
    """The same half day in the store of one server."""
    stores = SqliteStores(tmp_path_factory.mktemp("sqlite"))
    sink = stores.sink(lambda _: None)
    sink.put(Registry((machine(),), loaded_at=1.0))
    for one in half_day():
        sink.put(one)
    assert sink.close()
    return stores


@pytest.mark.parametrize("step_s", [10, 50, 60, 600, 3600, 7200])
def test_an_engine_answers_what_sqlite_answers(
    series: PromqlSeries, sqlite: SqliteStores, step_s: int
) -> None:
    past = sqlite.past()
    from_s = (END - (12 * HOUR if step_s > 50 else HOUR)) // step_s * step_s
    to_s = END // step_s * step_s + step_s
    found, theirs = series.series(KEYS, from_s, to_s, step_s), past.series(KEYS, from_s, to_s, step_s)
    past.close()
    if step_s > HOUR:  # SQLite adds up bytes of more than an hour in floats, and shows 15 digits of them
        assert [without_sums(points) for points in found] == [without_sums(points) for points in theirs]
        sums = [one.sum for points in theirs for _, one in points]
        assert [one.sum for points in found for _, one in points] == pytest.approx(sums, rel=1e-14)
    else:
        assert found == theirs


def without_sums(points: Points) -> list[tuple[int, int, int | None, int | None]]:
    return [(at, one.n, one.min, one.max) for at, one in points]


def test_what_nobody_sent_has_no_points(series: PromqlSeries) -> None:
    keys = [SeriesKey("nobody", CPU), SeriesKey("one", VRAM, "another"), SeriesKey("one", CPU)]
    found = series.series(keys, END - HOUR, END, 600)
    assert [bool(points) for points in found] == [False, False, True]
    assert series.series([], END - HOUR, END, 600) == []
    assert series.series(keys, END, END, 600) == [[], [], []]
    assert series.fault() is None


def test_the_last_seconds_are_there(engine: Engine, series: PromqlSeries) -> None:
    """VictoriaMetrics would repeat an older value for the last half minute."""
    now = int(time.time())
    values = {now - 100 + at: 1000 * at for at in range(0, 100, 4)}
    send(engine, *(of("now", at, HostSample(value // 1000)) for at, value in values.items()))
    from_s, to_s = (now - 100) // 10 * 10, now // 10 * 10 + 10
    assert series.series([SeriesKey("now", CPU)], from_s, to_s, 10) == [expected(values, from_s, to_s, 10)]


NAMES = [
    'q"uote',
    "back\\slash",
    "a.b",
    "axb",
    "a|b",
    "a",
    "ü-日本",
    "new\nline",
    "(a)*+?[]{}^$",
    "-",
    '{x="y"}',
]


def test_machines_and_gpus_of_any_name_are_told_apart(engine: Engine, series: PromqlSeries) -> None:
    gpu = GpuSample(0, "", "card", "dedicated", 1, 1, 0)
    samples = [
        of(name, END - 60, HostSample(number, gpu=(replace(gpu, uuid=name, vram_used_bytes=number),)))
        for number, name in enumerate(NAMES, 1)
    ]
    send(engine, *samples)
    cpus = [SeriesKey(name, CPU) for name in NAMES]
    cards = [SeriesKey(name, VRAM, name) for name in NAMES]
    together = series.series(cpus + cards, END - HOUR, END, 600)
    right = [[(END - 600, fold([1000 * number]))] for number in range(1, len(NAMES) + 1)]
    right += [[(END - 600, fold([number]))] for number in range(1, len(NAMES) + 1)]
    assert together == right
    assert [series.series([key], END - HOUR, END, 600)[0] for key in cpus + cards] == right


def test_many_machines_are_asked_for_together(engine: Engine, series: PromqlSeries) -> None:
    names = [f"machine-of-the-large-hall-{number:04d}" for number in range(600)]
    send(engine, *(of(name, END - 60, HostSample(number)) for number, name in enumerate(names)))
    found = series.series([SeriesKey(name, CPU) for name in names], END - HOUR, END, 600)
    assert found == [[(END - 600, fold([1000 * number]))] for number in range(600)]


def test_a_machine_that_moved_to_another_site_keeps_its_past(engine: Engine, series: PromqlSeries) -> None:
    send(engine, of("moved", END - 700, HostSample(1)), of("moved", END - 500, HostSample(2)), site="lab")
    send(engine, of("moved", END - 400, HostSample(4)), site="hall")
    found = series.series([SeriesKey("moved", CPU)], END - HOUR, END, 600)
    assert found == [[(END - 1200, fold([1000])), (END - 600, fold([2000, 4000]))]]


def test_what_was_scraped_from_metrics_is_not_mixed_in(engine: Engine, series: PromqlSeries) -> None:
    send(engine, of("scraped", END - 60, HostSample(ram_used_bytes=7)))
    scraped = {"__name__": "machines_ram_used_bytes", "machine": "scraped", "job": "a", "instance": "b"}
    labels = b"".join(label(name, value) for name, value in sorted(scraped.items()))
    message = Rows([labels]).message([9.0], (END - 60) * 1000)
    assert engine.write(compressed(message)) in (200, 204)
    engine.flush()
    assert series.series([SeriesKey("scraped", RAM)], END - HOUR, END, 600) == [[(END - 600, fold([7]))]]


def test_ends_are_no_values(engine: Engine, series: PromqlSeries) -> None:
    writer = HistoryWriter(engine.write_url)
    writer.put(of("gone", END - 100, HostSample(3)))
    writer.remove("gone", END - 90)
    assert writer.close()
    engine.flush()
    assert series.series([SeriesKey("gone", CPU)], END - HOUR, END, 600) == [[(END - 600, fold([3000]))]]


def test_questions_at_the_same_time_are_answered_the_same(series: PromqlSeries) -> None:
    def ask(_: int) -> Sequence[Points]:
        return series.series([SeriesKey("one", CPU)], END - HOUR, END, 600)

    right = ask(0)
    with ThreadPoolExecutor(8) as threads:
        assert all(one == right for one in threads.map(ask, range(40)))
    series.close()
    assert ask(0) == right
