"""Routing advice with 1,000 machines that are polled meanwhile, and leases for many agents at once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.fleet import machine_file
from bench.poll import fleet
from bench.table import Asker, Line, Times, answers, free_port, machines_server, note, running, wait_until

HOSTS, ASKED_S = 1000, 15.0
"""Each question is asked for so long, over three poll cycles."""
PACE_S = 0.01
MACHINES, AGENTS, LEASES = 10, 64, 1000
QUESTIONS = {
    "all hold it": "/api/route?model=llama3.1:70b",
    "nobody fits": "/api/route?model=llama3.1:70b&min_free_vram_gb=100",
    "cold": "/api/route?model=phi3:mini&cold=true",
}


def bench(folder: Path) -> list[Line]:
    """Ask for advice, then for leases."""
    with fleet(HOSTS) as ports:
        note(f"questions about {HOSTS} machines that are polled, for {(len(QUESTIONS) + 1) * ASKED_S:g} s")
        advice = _advice(folder / "advice", *ports)
        note(f"{AGENTS} processes take {LEASES} leases on {MACHINES} machines")
        return advice + _leases(folder / "leases", *ports)


def _advice(folder: Path, sidecar_port: int, ollama_port: int) -> list[Line]:
    lines = []
    with _server(folder, HOSTS, sidecar_port, ollama_port) as port:
        for what, path in QUESTIONS.items():
            lines.append(_asked(port, path, f"{what}, back to back", 0.0))
        what, path = next(iter(QUESTIONS.items()))
        lines.append(_asked(port, path, f"{what}, each {PACE_S * 1000:g} ms", PACE_S))
    return lines


def _asked(port: int, path: str, what: str, pause_s: float) -> Line:
    asker, until = Asker(port, path, allowed=(200, 503)), time.monotonic() + ASKED_S
    while time.monotonic() < until:
        asker.ask()
        time.sleep(pause_s)
    return Line(f"/api/route, {HOSTS} machines, {what}", str(asker.times()), to_reach="p99 5 ms")


def _leases(folder: Path, sidecar_port: int, ollama_port: int) -> list[Line]:
    with _server(folder, MACHINES, sidecar_port, ollama_port) as port:
        words = [sys.executable, "-m", "bench.lease_agent", str(port)]
        counts = [LEASES // AGENTS + (number < LEASES % AGENTS) for number in range(AGENTS)]
        agents = [
            subprocess.Popen([*words, str(count), str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for number, count in enumerate(counts)
        ]
        time.sleep(AGENTS / 16)  # each takes a moment to start; then all begin at once
        for agent in agents:
            assert agent.stdin
            agent.stdin.write(b"go\n")
            agent.stdin.flush()
        told = [json.loads(line) for agent in agents for line in agent.communicate()[0].splitlines()]
    if len({one["lease"] for one in told}) != LEASES:
        raise RuntimeError(f"{len(told)} leases of {LEASES}")
    took_s = max(one["released"] for one in told) - min(one["asked"] for one in told)
    times = Times([(one["got"] - one["asked"]) * 1000 for one in told])
    return [
        Line(f"a lease, {AGENTS} processes at once", str(times)),
        Line(f"{LEASES} leases taken and released", f"{LEASES / took_s:.0f} leases/s"),
    ]


@contextmanager
def _server(folder: Path, hosts: int, sidecar_port: int, ollama_port: int) -> Iterator[int]:
    """A server that has polled so many of the hosts; gives its port."""
    machines, port = folder / "machines", free_port()
    machines.mkdir(parents=True)
    for number in range(hosts):
        (machines / f"host{number}.yaml").write_text(machine_file(number, sidecar_port, ollama_port))
    settings = os.environ | {
        "MACHINES_DIR": str(machines),
        "MACHINES_DATA_DIR": str(folder / "var"),
        "MACHINES_PORT": str(port),
    }
    with running(machines_server("serve"), folder / "serve.log", **settings):
        wait_until(answers(port, "/api/route?model=llama3.1:70b"), 60, "the first poll")
        yield port
