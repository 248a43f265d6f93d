"""History in another engine: what writing costs this server, and how long a week of one metric takes."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import requests

from bench.peers import NOT_HERE, is_there
from bench.table import Line, TimedRequests, answers, cpu_s, free_port, note, running, wait_until
from machines_server.core.machine import Endpoint
from machines_server.core.past.metrics import MACHINE_METRICS, METRICS
from machines_server.core.past.rollup import fold
from machines_server.core.sample import (
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    RuntimeState,
    Sample,
    State,
)
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.values import SeriesKey

if TYPE_CHECKING:  # it needs the extra cluster
    from machines_server.store.promql.writer import HistoryWriter

HOSTS, ROUNDS, IN_A_GROUP = 1000, 10, 10
INTERVAL_S, WEEK_S, STEP_S = 5, 7 * 86_400, 1800
SHARE_OF_ENGINE = 0.5
"""As a share of the CPU of VictoriaMetrics, the cheaper engine: some 0.6 us where that takes 1.25."""
READ_MS = {"VictoriaMetrics": 10, "Prometheus": 50}
ASKED = 30
_METRIC = METRICS["cpu_percent"]
_SIDECAR = Endpoint("sidecar", "127.0.0.1", 3039, reports_host=True)
_OLLAMA = Endpoint("ollama", "127.0.0.1", 11434)


class _Engine(NamedTuple):
    """A running engine."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Write to both engines and read from them; each answer is compared with the right one."""
    if find_spec("cramjam") is None:
        return [Line("history in another engine", NOT_HERE.format("the extra cluster"))]
    lines = list[Line]()
    for name, program, run in (
        ("VictoriaMetrics", "victoria-metrics", _victoria_metrics),
        ("Prometheus", "prometheus", _prometheus),
    ):
        if not is_there(program):
            lines.append(Line(f"history in {name}", NOT_HERE.format(name)))
            continue
        with run(folder / program) as engine:
            # In this order, since Prometheus keeps late samples in a form that takes seconds to read.
            lines += [_reading(name, engine, quick=quick), _writing(name, engine, quick=quick)]
    return lines


def _writing(name: str, engine: _Engine, *, quick: bool) -> Line:
    """CPU of this process and of the engine per sample sent."""
    from machines_server.store.promql.writer import HistoryWriter

    hosts, rounds = (200, 3) if quick else (HOSTS, ROUNDS)
    note(f"{hosts} hosts with two GPUs are written to {name}, {rounds} times")
    writer = HistoryWriter(f"{engine.url}/api/v1/write")
    ours, theirs, written = list[float](), 0.0, 0
    now = time.time() - (rounds + 1) * INTERVAL_S
    for number in range(rounds + 1):
        engine_cpu, before = cpu_s(engine.pid), writer.counts().sent
        spent = _put(writer, hosts, now + number * INTERVAL_S)
        sent = writer.counts().sent - before
        if number:  # the first round encodes the labels
            ours.append(spent / sent * 1e6)
            time.sleep(1)
            theirs, written = theirs + cpu_s(engine.pid) - engine_cpu, written + sent
    if writer.counts().dropped or not writer.close():
        raise RuntimeError(f"not everything was taken: {writer.counts()}")
    cost, peer = median(ours), theirs / written * 1e6
    return Line(
        f"a sample written to {name}, {written // rounds // hosts} a host, CPU",
        f"{cost:.2f} us ({min(ours):.2f} to {max(ours):.2f})",
        f"{name} itself {peer:.2f} us",
        cost / peer,
        f"<= {SHARE_OF_ENGINE:g} x",
        cost / peer <= SHARE_OF_ENGINE,
    )


def _put(writer: "HistoryWriter", hosts: int, at: float) -> float:
    """Send a sample of each host; returns the CPU seconds of putting and sending them.

    Samples are put soon after they are made, as a poller does, while they are in the cache of the processor.
    """
    began, own, putting = time.process_time(), time.thread_time(), 0.0
    for first in range(0, hosts, IN_A_GROUP):
        samples = [_sample(host, at) for host in range(first, min(first + IN_A_GROUP, hosts))]
        since = time.thread_time()
        for sample in samples:
            writer.put(sample, "bench")
        putting += time.thread_time() - since
    wait_until(lambda: writer.counts().waiting == 0, 60, "all is sent")
    sending = time.process_time() - began - (time.thread_time() - own)
    return putting + sending


def _reading(name: str, engine: _Engine, *, quick: bool) -> Line:
    """A week of one metric, all four folds, beside the average alone; raises RuntimeError if one is wrong."""
    from machines_server.store.promql.writer import HistoryWriter

    to_s = int(time.time()) // STEP_S * STEP_S
    from_s = to_s - WEEK_S
    chance, values = random.Random(1), dict[float, float]()
    writer = HistoryWriter(f"{engine.url}/api/v1/write")
    for at in range(from_s, to_s, INTERVAL_S):
        stamp = at if at % 3 else at + round(chance.uniform(0, 1), 2)
        values[stamp] = chance.uniform(0, 100)
        writer.put(_of("week", stamp, HostSample(cpu_percent=values[stamp])))
    if not writer.close(60) or writer.counts().dropped:
        raise RuntimeError(f"not everything was taken: {writer.counts()}")
    requests.get(f"{engine.url}/internal/force_flush", timeout=60)
    buckets: dict[int, list[int | None]] = {}
    for stamp, value in values.items():
        buckets.setdefault(int(stamp // STEP_S * STEP_S), []).append(round(value * 1000))
    right = [(start, fold(some)) for start, some in buckets.items()]
    series, took = PromqlSeries(engine.url), list[float]()
    alone = quote(f'avg_over_time(machines_cpu_percent{{machine="week"}}[{STEP_S}s])')
    span = f"start={from_s + STEP_S - 0.001:.3f}&end={to_s - 0.001:.3f}&step={STEP_S}&nocache=1"
    theirs = TimedRequests(engine.port, f"/api/v1/query_range?query={alone}&{span}")
    note(f"a week of one metric, {len(values)} samples, is read from {name}")
    for _ in range(5 if quick else ASKED):
        began = time.perf_counter()
        found = series.series([SeriesKey("week", _METRIC)], from_s, to_s, STEP_S)
        took.append((time.perf_counter() - began) * 1000)
        if found != [right]:
            raise RuntimeError(f"the folds of {name} are not those of the samples")
        theirs.ask()
    series.close()
    ms = median(took[1:])
    return Line(
        f"one metric, 7 days, {len(right)} points, exact, from {name}",
        f"{ms:.1f} ms",
        f"its average alone {theirs.times().median:.1f} ms",
        ms / theirs.times().median,
        f"<= {READ_MS[name]} ms",
        ms <= READ_MS[name],
    )


def _sample(number: int, at: float) -> Sample:
    """What a cycle learns about a host with two GPUs and a model in memory."""
    gpus = tuple(
        GpuSample(
            card,
            f"GPU-{number:08d}-1234-5678-9abc-{card:012d}",
            "NVIDIA RTX A6000",
            "dedicated",
            vram_total_bytes=48 * 2**30,
            vram_used_bytes=random.randrange(2**35),
            vram_free_bytes=random.randrange(2**35),
            utilisation=random.randrange(100),
            temperature_c=60 + random.randrange(9),
            power_w=round(random.uniform(20, 300), 1),
        )
        for card in range(2)
    )
    host = HostSample(gpu=gpus)
    for metric in MACHINE_METRICS[2:]:
        is_bytes = metric.unit == "GiB"
        value = random.randrange(2**38) if is_bytes else round(random.uniform(0, 100), 2)
        setattr(host, metric.column, value)
    return _of(f"machine-{number:04d}", at + number / 1000, host, LoadedModel("llama3.1:70b", "d", 1, 1))


def _of(machine: str, at: float, host: HostSample, *models: LoadedModel) -> Sample:
    results = {
        "sidecar": PollResult(machine, _SIDECAR, State.OK, at, 0.0123, answer=RuntimeState(host=host)),
        "ollama": PollResult(machine, _OLLAMA, State.OK, at, 0.0123, answer=RuntimeState(models=models)),
    }
    return Sample(machine, results)


@contextmanager
def _victoria_metrics(folder: Path) -> Iterator[_Engine]:
    words = ["victoria-metrics", f"-storageDataPath={folder}", "-retentionPeriod=1y"]
    with _running(folder, [*words, "-dedup.minScrapeInterval=1ms"], "-httpListenAddr=127.0.0.1:{}") as engine:
        yield engine


@contextmanager
def _prometheus(folder: Path) -> Iterator[_Engine]:
    config = folder.with_suffix(".yml")
    config.write_text("storage: {tsdb: {out_of_order_time_window: 30m}}\n")
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}"]
    words += ["--storage.tsdb.retention.time=1y", "--web.enable-remote-write-receiver"]
    with _running(folder, words, "--web.listen-address=127.0.0.1:{}") as engine:
        yield engine


@contextmanager
def _running(folder: Path, words: list[str], listen: str) -> Iterator[_Engine]:
    port = free_port()
    command = [*words, listen.format(port)]
    with running(command, folder.with_suffix(".log"), **os.environ) as process:
        is_ready: Callable[[], bool] = answers(port, "/-/ready")
        wait_until(is_ready, 30, f"{words[0]} is ready")
        yield _Engine(process.pid, port)
