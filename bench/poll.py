"""Polls 1,000 hosts: CPU and memory, beside peers that scrape the same hosts at the same time."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import psutil

from bench.peers import NOT_HERE, is_there, prometheus, scrape_config, victoria_metrics
from bench.simulation import simulated
from bench.table import Line, compared, cpu_s, limited, machines_server, note, running


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is measured, in hosts and seconds.

    It takes over a minute, so that rollups are included. In the first 35 s every Ollama is asked once
    for the models on its disk as well.
    """

    hosts: int = 1000
    interval_s: int = 5
    timeout_s: int = 2
    warm_up_s: int = 35
    windows: int = 4
    window_s: int = 15

    @property
    def all_s(self) -> int:
        return self.warm_up_s + self.windows * self.window_s


OURS = "machines-server"
QUICK = _Plan(hosts=300, interval_s=2, timeout_s=1, warm_up_s=5, windows=1, window_s=6)


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Poll a fleet while the peers scrape it at the same interval, all measured in the same windows of time.

    Measured one after the other, they would see the machine at different speeds.
    """
    plan = QUICK if quick else _Plan()
    peers = {
        "Prometheus": ("prometheus", prometheus),
        "VictoriaMetrics": ("victoria-metrics", victoria_metrics),
    }
    with simulated(plan.hosts) as fleet, ExitStack() as stack:
        note(f"{plan.hosts} fake hosts are polled, and scraped by the peers, for some {plan.all_s} s")
        config = scrape_config(plan.hosts, fleet.ports, plan.interval_s, plan.timeout_s)
        machines = fleet.declare(folder / "machines")
        pids = {OURS: stack.enter_context(polling(folder, machines, plan.interval_s, plan.timeout_s))}
        ports = {}
        for name, (command, run) in peers.items():
            if is_there(command):
                pids[name], ports[name] = stack.enter_context(run(folder / command, config))
        measured = _measured(pids, plan)
        for port in ports.values():
            _check_peer(port, 2 * plan.hosts)
        stack.close()
        _check_ours(folder, plan)
    ours = measured.pop(OURS)
    lines = [_cpu_line(plan.hosts, ours, name, measured.get(name)) for name in peers]
    said = ", ".join(f"{name} {peer.rss_mb:.0f} MB" for name, peer in measured.items())
    what = f"resident memory of the poller, {plan.hosts} hosts"
    lines.append(limited(what, ours.rss_mb, "MB", 100, peer=said))
    return lines


@dataclass(frozen=True, slots=True)
class _Measured:
    """CPU microseconds per host and cycle in each window, and resident memory at the end."""

    cpu_us: list[float]
    rss_mb: float

    def __str__(self) -> str:
        return f"{median(self.cpu_us):.0f} us ({min(self.cpu_us):.0f} to {max(self.cpu_us):.0f})"


def _cpu_line(hosts: int, ours: _Measured, name: str, peer: _Measured | None) -> Line:
    what, at_most = f"CPU per host and cycle, {hosts} hosts, beside {name}", 0.3
    if peer is None:
        return compared(what, str(ours), NOT_HERE.format(name), None, at_most)
    ratio = median(ours.cpu_us) / median(peer.cpu_us)
    if name == "Prometheus":
        return compared(what, str(ours), str(peer), ratio, at_most)
    return Line(what, str(ours), str(peer), ratio)


def _check_ours(folder: Path, plan: _Plan) -> None:
    """Raise RuntimeError unless every host was sampled in every cycle but two at the beginning."""
    with closing(sqlite3.connect(folder / "var" / "telemetry.db")) as connection:
        (spans,) = connection.execute("SELECT count(*) FROM poll_span").fetchone()
        (good,) = connection.execute("SELECT count(*) FROM sample WHERE up = 1").fetchone()
    least = plan.hosts * (plan.all_s // plan.interval_s - 2)
    if spans != 1 or good < least:
        raise RuntimeError(f"{good} good samples in {spans} spans, of at least {least} in 1")


@contextmanager
def polling(folder: Path, machines: Path, interval_s: int, timeout_s: int, *prefix: str) -> Iterator[int]:
    """Run `machines-server poll`, through the command `prefix` if given; yields its process id."""
    settings = os.environ | {
        "MACHINES_DIR": str(machines),
        "MACHINES_DATA_DIR": str(folder / "var"),
        "MACHINES_POLL_INTERVAL_S": str(interval_s),
        "MACHINES_POLL_TIMEOUT_S": str(timeout_s),
    }
    with running([*prefix, *machines_server("poll")], folder / "poll.log", **settings) as process:
        yield process.pid


def _measured(pids: Mapping[str, int], plan: _Plan) -> dict[str, _Measured]:
    time.sleep(plan.warm_up_s)
    used: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(plan.windows):
        before, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
        time.sleep(plan.window_s)
        cycles = (time.monotonic() - began) / plan.interval_s
        for name, pid in pids.items():
            used[name].append((cpu_s(pid) - before[name]) / (plan.hosts * cycles) * 1e6)
    return {
        name: _Measured(used[name], psutil.Process(pid).memory_info().rss / 1e6) for name, pid in pids.items()
    }


def _check_peer(port: int, endpoints: int) -> None:
    """Raise RuntimeError unless the peer has reached every endpoint."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/api/v1/query?query=sum(up)")
        found = json.loads(connection.getresponse().read())["data"]["result"]
    reached = float(found[0]["value"][1]) if found else 0
    if reached != endpoints:
        raise RuntimeError(f"the peer reached {reached:g} of {endpoints} endpoints")
