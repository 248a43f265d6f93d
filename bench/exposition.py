"""A scrape of /metrics with 1,000 machines: what it costs, and how long others wait meanwhile."""

import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from bench.poll import polling
from bench.simulation import simulated
from bench.table import Line, TimedRequests, cpu_s, limited, note, server, wait_until

SCRAPED_HOSTS, SCRAPES = 1000, 10
SCRAPE_EVERY_S, TIMEOUT_S = 5, 2
"""The interval of scrapes and of polls, so that each scrape shows a new state."""
CPU_MS = 150
BESIDE_S, BESIDE_PACE_S = 6.0, 0.01


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Scrape a server whose machines another process polls, so that its own CPU is that of scrapes."""
    hosts, scrapes = (300, 2) if quick else (SCRAPED_HOSTS, SCRAPES)
    with simulated(hosts) as fleet:
        machines = fleet.declare(folder / "machines")
        with (
            server(folder, machines, MACHINES_POLLER="off") as (pid, port),
            polling(folder, machines, SCRAPE_EVERY_S, TIMEOUT_S),
        ):
            wait_until(lambda: _scrape(port).count(b'status="online"} 1\n') == hosts, 60, "all are polled")
            note(f"/metrics of {hosts} machines is scraped {scrapes} times, then without a pause")
            cpu_ms, with_all_ms, size_bytes = _cost(pid, port, scrapes)
            others = _others_meanwhile(port)
    what = f"a scrape of /metrics, {hosts} machines, CPU"
    more = f"; with all other work of the workers in {SCRAPE_EVERY_S} s {with_all_ms:.0f} ms"
    more += f"; {size_bytes / 2**20:.1f} MiB; /health meanwhile {others}"
    return [limited(what, cpu_ms, "ms", CPU_MS, more)]


def _cost(pid: int, port: int, scrapes: int) -> tuple[float, float, int]:
    """CPU milliseconds of the workers while one scrapes, and from scrape to scrape; and the size of one.

    A scrape shows a state that no worker has built before.
    """
    size_bytes, before, scraping_s = len(_scrape(port)), cpu_s(pid), 0.0
    for _ in range(scrapes):
        time.sleep(SCRAPE_EVERY_S)
        began = cpu_s(pid)
        _scrape(port, "gzip")
        scraping_s += cpu_s(pid) - began
    return scraping_s / scrapes * 1000, (cpu_s(pid) - before) / scrapes * 1000, size_bytes


def _others_meanwhile(port: int) -> str:
    """How long requests for the health of the server take while one client scrapes without a pause."""
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.is_set():
            _scrape(port, "gzip")

    thread = threading.Thread(target=scrape)
    thread.start()
    requests, until = TimedRequests(port, "/health", connections=4), time.monotonic() + BESIDE_S
    while time.monotonic() < until:
        requests.ask()
        time.sleep(BESIDE_PACE_S)
    is_over.set()
    thread.join()
    return str(requests.times())


def _scrape(port: int, encoding: str = "identity") -> bytes:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": encoding})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"/metrics: {response.status}")
        return body
