"""What a scrape costs the host that is scraped: our sidecar beside node_exporter."""

import os
import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import psutil

from bench.peers import NOT_HERE, is_there, node_exporter
from bench.table import Line, answers, compared, cpu_s, free_port, limited, note, running, wait_until

PER_S = 20
"""Far more than in life, so that the operating system's account, in steps of 10 ms, is fine enough."""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Scrape both, in rounds, at the same pace."""
    rounds, round_s = (1, 3) if quick else (3, 5)
    note(f"the sidecar and its peer are scraped {PER_S} times a second, {rounds} rounds of {round_s} s each")
    port = free_port()
    settings = os.environ | {"SIDECAR_HOST": "127.0.0.1", "SIDECAR_PORT": str(port)}
    with running([sys.executable, "-m", "sidecar"], folder / "sidecar.log", **settings) as process:
        wait_until(answers(port, "/health"), 20, "the sidecar answers")
        time.sleep(2)
        json_ms = [_cost_ms(process.pid, port, round_s, "application/json") for _ in range(rounds)]
        rss_mb = psutil.Process(process.pid).memory_info().rss / 2**20
        text_ms = [_cost_ms(process.pid, port, round_s, "*/*") for _ in range(rounds)]
    peer_ms: list[float] = []
    peer = NOT_HERE.format("node_exporter")
    peer_rss = ""
    if is_there("prometheus-node-exporter"):
        with node_exporter(folder) as (pid, peer_port):
            peer_ms = [_cost_ms(pid, peer_port, round_s, "*/*") for _ in range(rounds)]
            peer_rss = f"node_exporter {psutil.Process(pid).memory_info().rss / 2**20:.0f} MiB"
        peer = f"node_exporter {median(peer_ms):.2f} ms"
    what = {"a scrape of the sidecar, CPU, JSON": json_ms, "a scrape of the sidecar, CPU, text": text_ms}
    lines = [
        compared(
            name, f"{median(ours):.2f} ms", peer, median(ours) / median(peer_ms) if peer_ms else None, 0.2
        )
        for name, ours in what.items()
    ]
    return [
        *lines,
        limited("resident memory of the sidecar, no GPU", rss_mb, "MiB", 25, peer=peer_rss),
    ]


def _cost_ms(pid: int, port: int, for_s: float, accept: str) -> float:
    """CPU milliseconds per scrape; all that the process did meanwhile is counted."""
    before, scrapes, until = cpu_s(pid), 0, time.monotonic() + for_s
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        while (now := time.monotonic()) < until:
            connection.request("GET", "/metrics", headers={"Accept": accept})
            response = connection.getresponse()
            if not response.read() or response.status != 200:
                raise RuntimeError(f"port {port}: {response.status}")
            scrapes += 1
            time.sleep(max(0.0, now + 1 / PER_S - time.monotonic()))
    return (cpu_s(pid) - before) / scrapes * 1000
