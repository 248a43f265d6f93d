"""Routing advice about 1,000 machines while they are polled, and leases for many agents at once."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from bench.simulation import Simulation, simulated
from bench.table import Line, TimedRequests, Times, answers, note, server, wait_until

HOSTS, ASKED_S = 1000, 6.0
"""How long each question is asked: longer than a poll cycle."""
CONNECTIONS = 8
"""Used in turn, since each is served by one worker."""
PACE_S, PACED_S = 0.01, 10.0
"""Interval and duration of paced questions: two cycles, since workers compute an answer once per cycle."""
P99_MS = 5.0
WAITERS = 500
MACHINES, AGENTS, LEASES = 10, 64, 1000
QUESTIONS = {
    "all hold it": ("/api/route?model=llama3.1:70b", 200),
    "nobody fits": ("/api/route?model=llama3.1:70b&min_free_vram_gb=100", 503),
    "cold": ("/api/route?model=phi3:mini&cold=true", 200),
}
"""By description, the path and the status of its answer."""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Ask for advice, then take leases."""
    hosts, asked_s, paced_s = (300, 1.5, 1.5) if quick else (HOSTS, ASKED_S, PACED_S)
    with simulated(hosts) as fleet:
        asked_for_s = len(QUESTIONS) * asked_s + paced_s
        note(f"questions about {hosts} machines that are polled, for {asked_for_s:g} s")
        lines = _advice(folder / "advice", fleet, asked_s, paced_s)
        return lines if quick else lines + _leases(folder / "leases", fleet)


def _advice(folder: Path, fleet: Simulation, asked_s: float, paced_s: float) -> list[Line]:
    lines = []
    with server(folder, fleet.declare(folder / "machines")) as (_, port):
        wait_until(answers(port, "/api/route?model=llama3.1:70b"), 60, "the first poll")
        for what, question in QUESTIONS.items():
            lines.append(
                _asked(port, question, f"{fleet.count} machines, {what}, back to back", 0.0, asked_s)
            )
        what, question = next(iter(QUESTIONS.items()))
        paced = f"{fleet.count} machines, {what}, each {PACE_S * 1000:g} ms"
        lines.append(_asked(port, question, paced, PACE_S, paced_s))
        with _waiting(port, WAITERS):
            lines.append(_asked(port, question, f"{paced}, while {WAITERS} wait", PACE_S, paced_s))
    return lines


@contextmanager
def _waiting(port: int, count: int) -> Iterator[None]:
    """So many callers wait for a machine that does not exist."""
    path, _ = QUESTIONS["nobody fits"]
    with ExitStack() as connections:
        for _ in range(count):
            connection = connections.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=30)))
            connection.request("GET", f"{path}&wait_s=60")
        time.sleep(1)
        yield


def _asked(port: int, question: tuple[str, int], what: str, pause_s: float, for_s: float) -> Line:
    path, status = question
    requests = TimedRequests(port, path, status, connections=CONNECTIONS)
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        requests.ask()
        time.sleep(pause_s)
    times = requests.times()
    reached = times.p99 <= P99_MS
    return Line(f"/api/route, {what}", str(times), "", None, f"p99 <= {P99_MS:g} ms", reached)


def _leases(folder: Path, fleet: Simulation) -> list[Line]:
    note(f"{AGENTS} processes take {LEASES} leases on {MACHINES} machines")
    with server(folder, fleet.declare(folder / "machines", MACHINES)) as (_, port):
        wait_until(answers(port, "/api/route?model=llama3.1:70b"), 60, "the first poll")
        words = [sys.executable, "-m", "bench.lease_agent", str(port)]
        counts = [LEASES // AGENTS + (number < LEASES % AGENTS) for number in range(AGENTS)]
        agents = [
            subprocess.Popen([*words, str(count), str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for number, count in enumerate(counts)
        ]
        time.sleep(AGENTS / 16)  # each takes a moment to start, then all begin at once
        for agent in agents:
            assert agent.stdin
            agent.stdin.write(b"go\n")
            agent.stdin.flush()
        granted = [json.loads(line) for agent in agents for line in agent.communicate()[0].splitlines()]
    if len({one["lease"] for one in granted}) != LEASES:
        raise RuntimeError(f"{len(granted)} leases of {LEASES}")
    took_s = max(one["released"] for one in granted) - min(one["asked"] for one in granted)
    times = Times([(one["got"] - one["asked"]) * 1000 for one in granted])
    return [
        Line(f"a lease, {AGENTS} processes at once", str(times)),
        Line(f"{LEASES} leases taken and released", f"{LEASES / took_s:.0f} leases/s"),
    ]
