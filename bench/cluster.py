"""Several servers: the cost in PostgreSQL of a polled row, and how soon another server sees a sample."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from bench.simulation import simulated
from bench.table import Line, cpu_s, limited, note
from machines_server.core.machine import Endpoint, Registry
from machines_server.core.sample import Cycle, GpuSample, HostSample, PollResult, RuntimeState, Sample, State
from machines_server.core.shards import SHARDS
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.latest_rows import LatestRow, LatestRows
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.poll_writer import PollerId
from machines_server.store.postgres.present import PostgresPresent
from machines_server.store.postgres.sink import PostgresSink
from tests.cluster.servers import Servers
from tests.postgres import Postgres, folder_of_postgres
from tests.store.polls import machine
from tests.store.postgres.latest import write_together
from tests.store.promql.engines import victoria_metrics

HOSTS, ROUNDS, SEEN = 10_000, 6, 20
ROWS, PARTS = 100_000, 8
SHARED_BUFFERS = "512MB"
"""Holds the present of 100,000 hosts, as docs/cluster.md advises."""
SITE = "bench"
US_A_ROW, SEEN_S, ROUND_S = 8.0, 0.5, 0.6
POLLERS, WATCHED_S = 3, 60.0
HOSTS_PER_PROCESS = 1000
"""While pollers come, several of them are connected to a host, which takes more files than one does."""
_SIDECAR = Endpoint("sidecar", "127.0.0.1", 3039, reports_host=True)
_GPUS = tuple(
    GpuSample(n, f"GPU-{n}", "card", "dedicated", 24 << 30, 8 << 30, 16 << 30, 5, 50, 90) for n in (0, 1)
)


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Write polls as a poller does, read them as a server does, and poll with three pollers."""
    hosts, rows = (1000, 10_000) if quick else (HOSTS, ROWS)
    with (
        folder_of_postgres() as data,
        Postgres(data / "data", fsync="on", shared_buffers=SHARED_BUFFERS) as postgres,
    ):
        lines = [*_of_polls(postgres, hosts), _of_rows(postgres, rows)]
        lines += _of_pollers(folder, postgres, 500 if quick else HOSTS, 10.0 if quick else WATCHED_S)
    return lines


@contextmanager
def _poller(url: str) -> Iterator[tuple[PostgresSink, dict[int, int]]]:
    """A sink of a poller that holds all shards."""
    with closing(Database(url)) as database:
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO shard (site, number, owner, epoch, expires_at_ms)"
                " SELECT %s, generate_series(0, %s), 'me', 1, now_ms() + 3600000",
                (SITE, SHARDS - 1),
            )
            connection.execute(
                "INSERT INTO poller"
                " (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)"
                " VALUES ('me', %s, 'here', 1, 0, now_ms() + 3600000, '', 5, 2)",
                (SITE,),
            )
        faults: list[str | None] = []
        sink = PostgresSink(database, PollerId("me", SITE, "here"), max_gap_s=12, on_fault=faults.append)
        try:
            yield sink, dict.fromkeys(range(SHARDS), 1)
        finally:
            sink.close(60)
        if any(faults):
            raise RuntimeError(str(faults))


def _of_polls(postgres: Postgres, hosts: int) -> list[Line]:
    """CPU of the server per polled row, and how soon another process sees a sample."""
    note(f"{hosts:,} hosts written {ROUNDS} times")
    url = postgres.new_database()
    names = [f"host{number}" for number in range(hosts)]
    with _poller(url) as (sink, shards), closing(Database(url)) as database:
        sink.put(Registry(tuple(map(machine, names)), loaded_at=time.time(), shards=shards))
        _cycle(sink, names)  # the first writes machines and events, too
        _wait(sink)
        before = _cpu_s(postgres)
        for _ in range(ROUNDS):
            _cycle(sink, names)
            _wait(sink)
        us = (_cpu_s(postgres) - before) / ROUNDS / hosts * 1e6
        listener = Listener(database)
        present = PostgresPresent(database, listener, SITE, "there", 5.0)
        present.snapshot()
        while not listener.is_listening():
            time.sleep(0.01)
        present.snapshot()
        delays = []
        for number in range(SEEN):
            time.sleep(0.3)
            name = names[number]
            at = time.time()
            sink.put(_result(name, at))
            began, key = time.monotonic(), name.casefold()
            while abs(present.snapshot().latest[key]["sidecar"].polled_at - at) > 0.01:
                present.version()
                time.sleep(0.002)
            delays.append(time.monotonic() - began)
        listener.close()
    return [
        limited(f"PostgreSQL: CPU a polled row, {hosts:,} hosts", us, "us", US_A_ROW),
        limited(
            "a sample seen on another server", max(delays), "s", SEEN_S, f", median {median(delays):.2f} s"
        ),
    ]


def _of_rows(postgres: Postgres, rows: int) -> Line:
    """How long it takes to replace many rows of the present."""
    note(f"{rows:,} rows in {PARTS} batches")
    host = '{"cpu_percent": 12.5, "gpu": []}' + " " * 800
    with closing(Database(postgres.new_database())) as database, database.connect() as connection:
        took, latest = [], LatestRows(connection)
        for revision in range(1, ROUNDS + 2):
            parts = [
                [_row(number, revision, host) for number in range(part, rows, PARTS)] for part in range(PARTS)
            ]
            began = time.monotonic()
            for part in parts:
                write_together(connection, latest, part)
            took.append(time.monotonic() - began)
    seconds = median(took[1:]) * ROWS / rows
    return limited(f"{ROWS:,} rows replaced in a round", seconds, "s", ROUND_S)


def _row(number: int, revision: int, host: str) -> LatestRow:
    return LatestRow(
        shard_id=number % SHARDS,
        machine_id=number,
        endpoint="sidecar",
        url="http://127.0.0.1:3039",
        state="ok",
        reason=None,
        hint=None,
        polled_at_ms=revision,
        answered_at_ms=revision,
        clock_ahead_s=0.0,
        up_since_ms=None,
        revision=revision,
        models=None,
        host=host,
    )


def _of_pollers(folder: Path, postgres: Postgres, hosts: int, lasts_s: float) -> list[Line]:
    """Three pollers share the hosts of one site; nothing is polled late once all of it is known."""
    note(f"{POLLERS} pollers, {hosts:,} hosts, {lasts_s:g} s")
    with ExitStack() as stack:
        engine = stack.enter_context(victoria_metrics(folder / "engine"))
        fleet = stack.enter_context(simulated(hosts, HOSTS_PER_PROCESS))
        servers = Servers(folder, postgres.new_database(), engine, 5.0)
        stack.callback(servers.database.close)
        servers.machines.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        pollers = [
            stack.enter_context(servers.server(f"poller{number}", command="poll"))
            for number in range(POLLERS)
        ]
        _wait_for(lambda: servers.are_divided(POLLERS), 300)
        # Not all at once: the fake hosts would be too slow to accept 20,000 connections within a poll.
        for first in range(0, hosts, HOSTS_PER_PROCESS):
            declared = min(first + HOSTS_PER_PROCESS, hosts)
            fleet.declare(servers.machines, declared, first)
            _wait_for(partial(_are_polled, servers, declared), 300)
        polled_s, starting_s = time.monotonic() - began, 0.0
        # Machines, events, GPUs and lists of models are written once; a poller asks for 80 lists a second.
        while servers.rows("SELECT count(*) FROM library") != [(hosts,)]:
            if time.monotonic() > began + 600:
                raise TimeoutError("the models on the disks of hosts are not known within 600 s")
            starting_s = max(starting_s, _oldest_s(servers))
            time.sleep(0.2)
        clocks = {
            "pollers": lambda: sum(cpu_s(poller.process.pid) for poller in pollers),
            "PostgreSQL": lambda: _cpu_s(postgres),
            "VictoriaMetrics": lambda: cpu_s(engine.pid),
            "hosts": lambda: sum(map(cpu_s, fleet.pids)),
        }
        until, oldest_s, before = time.monotonic() + lasts_s, 0.0, _read(clocks)
        while time.monotonic() < until:
            oldest_s = max(oldest_s, _oldest_s(servers))
            time.sleep(0.2)
        cores = {who: (after - before[who]) / lasts_s for who, after in _read(clocks).items()}
    what = f"{POLLERS} pollers, {hosts:,} hosts"
    shares = ", ".join(f"{who} {share:.2f}" for who, share in cores.items())
    return [
        Line(f"{what}: all polled after a first start", f"{polled_s:.0f} s, then oldest {starting_s:.1f} s"),
        limited(
            f"{what} each 5 s: oldest poll",
            oldest_s,
            "s",
            10.0,
            f" (10: a cycle was missed); cores: {shares}",
        ),
    ]


def _are_polled(servers: Servers, hosts: int) -> bool:
    return servers.rows("SELECT count(*) FROM latest") == [(2 * hosts,)]


def _oldest_s(servers: Servers) -> float:
    ((oldest_ms,),) = servers.rows("SELECT now_ms() - min(polled_at_ms) FROM latest")
    return float(oldest_ms) / 1000


def _read(clocks: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    return {who: clock() for who, clock in clocks.items()}


def _cycle(sink: PostgresSink, names: Sequence[str]) -> None:
    at = time.time()
    for name in names:
        result = _result(name, time.time())
        sink.put(result)
        sink.put(Sample(name, {"sidecar": result}))
    sink.put(Cycle(at, time.time(), 5, 2))


def _result(name: str, at: float) -> PollResult:
    host = HostSample(
        12.5, 1.0, 1.0, 1.0, 8 << 30, 64 << 30, 56 << 30, 1 << 40, 2 << 40, 1 << 40, at % 1e6, _GPUS
    )
    return PollResult(name, _SIDECAR, State.OK, at, 0.01, answer=RuntimeState(host=host))


def _wait(sink: PostgresSink) -> None:
    _wait_for(lambda: sink.backlog().waiting == 0, 120)


def _wait_for(condition: Callable[[], bool], within_s: float) -> None:
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {within_s:g} s")
        time.sleep(0.02)


def _cpu_s(postgres: Postgres) -> float:
    """CPU seconds of the server and all its processes, including ended ones."""
    main = psutil.Process(postgres.pid)
    times = [main.cpu_times(), *(child.cpu_times() for child in main.children(recursive=True))]
    ended = times[0].children_user + times[0].children_system
    return sum(one.user + one.system for one in times) + ended
