"""What a scrape costs the scraped host: our sidecar beside node_exporter."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import psutil

from bench.peers import NOT_HERE, is_there, node_exporter
from bench.table import Line, answers, compared, cpu_s, free_port, limited, note, running, wait_until

PER_S = 20
"""Far more than in production, because the operating system counts CPU time in steps of 10 ms."""
SELDOM_S = 5
"""The interval of a server with default settings."""
JSON, TEXT = "application/json", "*/*"


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Scrape both in rounds at the same rate."""
    rounds, round_s, seldom_s = (1, 3, 5) if quick else (3, 5, 20)
    note(f"the sidecar and its peer are scraped {PER_S} times a second, {rounds} rounds of {round_s} s each")
    with ExitStack() as stack:
        pid, port = stack.enter_context(_sidecar(folder))
        json_ms = [_cost_ms(pid, port, round_s, JSON) for _ in range(rounds)]
        rss_mb = psutil.Process(pid).memory_info().rss / 2**20
        text_ms = [_cost_ms(pid, port, round_s, TEXT) for _ in range(rounds)]
        both = {pid: (port, JSON)}
        peer_ms: list[float] = []
        peer, peer_pid, peer_rss = NOT_HERE.format("node_exporter"), None, ""
        if is_there("prometheus-node-exporter"):
            peer_pid, peer_port = stack.enter_context(node_exporter(folder))
            peer_ms = [_cost_ms(peer_pid, peer_port, round_s, TEXT) for _ in range(rounds)]
            peer = f"node_exporter {median(peer_ms):.2f} ms"
            peer_rss = f"node_exporter {psutil.Process(peer_pid).memory_info().rss / 2**20:.0f} MiB"
            both[peer_pid] = peer_port, TEXT
        seldom_ms = _seldom_ms(both, seldom_s)
    what = {"a scrape of the sidecar, CPU, JSON": json_ms, "a scrape of the sidecar, CPU, text": text_ms}
    lines = [
        compared(
            name, f"{median(ours):.2f} ms", peer, median(ours) / median(peer_ms) if peer_ms else None, 0.1
        )
        for name, ours in what.items()
    ]
    theirs = seldom_ms[peer_pid] if peer_pid else None
    seldom = compared(
        f"CPU for one scrape every {SELDOM_S} s, with all other work in that time",
        f"{seldom_ms[pid]:.1f} ms",
        f"node_exporter {theirs:.1f} ms" if theirs else peer,
        seldom_ms[pid] / theirs if theirs else None,
        0.4,
    )
    return [
        *lines,
        seldom,
        limited("resident memory of the sidecar, no GPU", rss_mb, "MiB", 25, peer=peer_rss),
    ]


@contextmanager
def _sidecar(folder: Path) -> Iterator[tuple[int, int]]:
    """Run our sidecar on this machine; yields its process id and port."""
    port = free_port()
    settings = os.environ | {"SIDECAR_HOST": "127.0.0.1", "SIDECAR_PORT": str(port)}
    with running([sys.executable, "-m", "sidecar"], folder / "sidecar.log", **settings) as process:
        wait_until(answers(port, "/health"), 20, "the sidecar answers")
        time.sleep(2)
        yield process.pid, port


def _seldom_ms(servers: Mapping[int, tuple[int, str]], for_s: int) -> dict[int, float]:
    """CPU milliseconds of each process per scrape, at the rate of production."""
    before = {pid: cpu_s(pid) for pid in servers}
    scrapes = for_s // SELDOM_S
    for _ in range(scrapes):
        time.sleep(SELDOM_S)
        for port, accept in servers.values():
            with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                _scrape(connection, accept)
    return {pid: (cpu_s(pid) - used) / scrapes * 1000 for pid, used in before.items()}


def _scrape(connection: HTTPConnection, accept: str) -> None:
    connection.request("GET", "/metrics", headers={"Accept": accept})
    response = connection.getresponse()
    if not response.read() or response.status != 200:
        raise RuntimeError(f"port {connection.port}: {response.status}")


def _cost_ms(pid: int, port: int, for_s: float, accept: str) -> float:
    """CPU milliseconds per scrape, including everything else that the process did."""
    before, scrapes, until = cpu_s(pid), 0, time.monotonic() + for_s
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        while (now := time.monotonic()) < until:
            _scrape(connection, accept)
            scrapes += 1
            time.sleep(max(0.0, now + 1 / PER_S - time.monotonic()))
    return (cpu_s(pid) - before) / scrapes * 1000
