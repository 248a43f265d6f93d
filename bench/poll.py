"""Polling 1,000 hosts: CPU of one cycle and resident memory, beside Prometheus scraping the same hosts."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil

from bench.fleet import address, machine_file, prometheus_config
from bench.prometheus import is_there, prometheus
from bench.table import Line, free_port, machines_server, note, running

HOSTS, INTERVAL_S, TIMEOUT_S = 1000, 5, 2
WARM_UP_S, MEASURED_S = 35, 60
"""Measured over whole minutes, so that the rollups are in it."""


def bench(folder: Path) -> list[Line]:
    """Poll 1,000 fake hosts for some minutes, then let Prometheus scrape them as often."""
    with fleet(HOSTS) as ports:
        note(f"{HOSTS} fake hosts are polled for {WARM_UP_S + MEASURED_S} s")
        cpu_us, rss_mb = _ours(folder, *ports)
        theirs = None
        if is_there():
            note(f"Prometheus scrapes them for {WARM_UP_S + MEASURED_S} s")
            theirs = _prometheus(folder, ports)
    cpu = Line(
        f"CPU per host and cycle, {HOSTS} hosts", f"{cpu_us:.0f} us", "no Prometheus here", None, "0.5 x"
    )
    rss = Line("resident memory, polling process", f"{rss_mb:.0f} MB", "no Prometheus here", None, "120 MB")
    if theirs is None:
        return [cpu, rss]
    return [
        Line(cpu.what, cpu.ours, f"Prometheus {theirs[0]:.0f} us", cpu_us / theirs[0], cpu.to_reach),
        Line(rss.what, rss.ours, f"Prometheus {theirs[1]:.0f} MB", rss_mb / theirs[1], rss.to_reach),
    ]


@contextmanager
def fleet(hosts: int) -> Iterator[tuple[int, int]]:
    """The fake hosts; gives the ports of their sidecars and Ollamas."""
    ports = free_port(), free_port()
    words = [sys.executable, "-m", "bench.fleet", str(hosts), *map(str, ports)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the fake hosts at {address(0)} cannot be started")
        try:
            yield ports
        finally:
            process.stdin.close()


def _ours(folder: Path, sidecar_port: int, ollama_port: int) -> tuple[float, float]:
    machines = folder / "machines"
    machines.mkdir()
    for number in range(HOSTS):
        (machines / f"host{number}.yaml").write_text(machine_file(number, sidecar_port, ollama_port))
    settings = os.environ | {
        "MACHINES_DIR": str(machines),
        "MACHINES_DATA_DIR": str(folder / "var"),
        "MACHINES_POLL_INTERVAL_S": str(INTERVAL_S),
        "MACHINES_POLL_TIMEOUT_S": str(TIMEOUT_S),
    }
    with running(machines_server("poll"), folder / "poll.log", **settings) as process:
        measured = _measured(process.pid)
    with closing(sqlite3.connect(folder / "var" / "telemetry.db")) as connection:
        (spans,) = connection.execute("SELECT count(*) FROM poll_span").fetchone()
        (good,) = connection.execute("SELECT count(*) FROM sample WHERE up = 1").fetchone()
    least = HOSTS * MEASURED_S // INTERVAL_S
    if spans != 1 or good < least:
        raise RuntimeError(f"{good} good samples in {spans} spans, of at least {least} in 1")
    return measured


def _prometheus(folder: Path, ports: tuple[int, int]) -> tuple[float, float]:
    config = prometheus_config(HOSTS, ports, INTERVAL_S, TIMEOUT_S)
    with prometheus(folder / "prometheus", config) as (pid, port):
        measured = _measured(pid)
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/api/v1/query?query=sum(up)")
        (found,) = json.loads(connection.getresponse().read())["data"]["result"]
        connection.close()
        if float(found["value"][1]) != 2 * HOSTS:
            raise RuntimeError(f"Prometheus reached {found['value'][1]} of {2 * HOSTS} endpoints")
        return measured


def _measured(pid: int) -> tuple[float, float]:
    """CPU microseconds per host and cycle, and resident MB, as the operating system accounts for them."""
    process = psutil.Process(pid)
    time.sleep(WARM_UP_S)
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(MEASURED_S)
    after, took_s = process.cpu_times(), time.monotonic() - began
    cpu_s = after.user + after.system - before.user - before.system
    return cpu_s / (HOSTS * took_s / INTERVAL_S) * 1e6, process.memory_info().rss / 1e6
