"""Routing advice about 1,000 machines while they are polled, and leases for many agents at once."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from bench.arrivals import asked_at_a_rate
from bench.simulation import Simulation, simulated
from bench.table import Line, TimedRequests, Times, answers, note, server, wait_until

HOSTS, ASKED_S = 1000, 6.0
"""How long each question is asked: longer than a poll cycle."""
CONNECTIONS = 8
"""Used in turn, since each is served by one worker."""
EVERY_S, ASKED_BY_MANY_S, MANY_CONNECTIONS = 0.01, 10.0, 32
"""How often one of many agents asks, for how long (two cycles, since each makes answers anew), and over how
many connections."""
P99_MS = 2.0
WAITERS = 500
MACHINES, AGENTS, LEASES = 10, 64, 1000
LEASES_PER_S, LEASE_P99_MS = 1000, 100.0
QUESTIONS = {
    "all hold it": ("/api/route?model=llama3.1:70b", 200),
    "nobody fits": ("/api/route?model=llama3.1:70b&min_free_vram_gb=100", 503),
    "cold": ("/api/route?model=phi3:mini&cold=true", 200),
}
"""By description, the path and the status of its answer."""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Ask for advice, then take leases."""
    hosts, asked_s, by_many_s = (300, 1.5, 1.5) if quick else (HOSTS, ASKED_S, ASKED_BY_MANY_S)
    with simulated(hosts) as fleet:
        asked_for_s = len(QUESTIONS) * (asked_s + by_many_s) + by_many_s
        note(f"questions about {hosts} machines that are polled, for {asked_for_s:g} s")
        lines = _advice(folder / "advice", fleet, asked_s, by_many_s)
        return lines if quick else lines + _leases(folder / "leases", fleet)


def _advice(folder: Path, fleet: Simulation, asked_s: float, by_many_s: float) -> list[Line]:
    lines = []
    with server(folder, fleet.declare(folder / "machines")) as (_, port):
        wait_until(answers(port, "/api/route?model=llama3.1:70b"), 60, "the first poll")
        for what, question in QUESTIONS.items():
            lines.append(_asked(port, question, f"{fleet.count} machines, {what}", asked_s))
        for what, question in QUESTIONS.items():
            lines.append(_asked_by_many(port, question, f"{fleet.count} machines, {what}", by_many_s))
        what, question = next(iter(QUESTIONS.items()))
        with _waiting(port, WAITERS):
            while_waiting = f"{fleet.count} machines, {what}, while {WAITERS} wait"
            lines.append(_asked_by_many(port, question, while_waiting, by_many_s))
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


def _asked(port: int, question: tuple[str, int], what: str, for_s: float) -> Line:
    """One agent asks again as soon as it has its answer."""
    path, status = question
    requests = TimedRequests(port, path, status, connections=CONNECTIONS)
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        requests.ask()
    return _line(f"/api/route, {what}, back to back", requests.times(), P99_MS)


def _asked_by_many(port: int, question: tuple[str, int], what: str, for_s: float) -> Line:
    """Agents ask whether or not others still wait for their answers."""
    times = asked_at_a_rate(port, *question, EVERY_S, for_s, MANY_CONNECTIONS)
    return _line(f"/api/route, {what}, an agent each {EVERY_S * 1000:g} ms", times, P99_MS)


def _line(what: str, times: Times, p99_ms: float) -> Line:
    return Line(what, str(times), "", None, f"p99 <= {p99_ms:g} ms", times.p99 <= p99_ms)


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
        _line(f"a lease, {AGENTS} processes at once", times, LEASE_P99_MS),
        Line(
            f"{LEASES} leases taken and released",
            f"{LEASES / took_s:.0f} leases/s",
            "",
            None,
            f">= {LEASES_PER_S} leases/s",
            took_s * LEASES_PER_S <= LEASES,
        ),
    ]
