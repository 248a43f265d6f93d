"""Serving while polling: `/api/infrastructure` over 16 connections, measured with `wrk`."""

import json
import re
import subprocess
import time
from pathlib import Path
from statistics import median

from bench.peers import NOT_HERE, is_there
from bench.simulation import simulated
from bench.table import Line, TimedRequests, note, server

MACHINES, CONNECTIONS = 100, 16
REQUESTS_PER_S, P99_MS = 10_000, 10
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Send requests over 16 connections as fast as possible, in rounds longer than a poll cycle."""
    rounds, round_s = (1, 4) if quick else (5, 6)
    what = f"/api/infrastructure, {MACHINES} machines, {CONNECTIONS} connections"
    to_reach = f">= {REQUESTS_PER_S} req/s, p99 <= {P99_MS} ms"
    if not is_there("wrk"):
        return [Line(what, NOT_HERE.format("wrk"), "", None, to_reach)]
    with simulated(MACHINES) as fleet, server(folder, fleet.declare(folder / "machines")) as (_, port):
        time.sleep(7)
        note(f"{CONNECTIONS} connections ask for {MACHINES} machines, {rounds} times {round_s} s")
        _wrk(port, "/api/infrastructure", 1)  # warm-up
        results = [_wrk(port, "/api/infrastructure", round_s) for _ in range(rounds)]
        _check(port)
    rate, p50, p99 = (median(values) for values in zip(*results, strict=True))
    said = f"{rate:.0f} req/s, {p50:.1f} ms, p99 {p99:.1f}"
    return [Line(what, said, "", None, to_reach, rate >= REQUESTS_PER_S and p99 <= P99_MS)]


def _check(port: int) -> None:
    """Raise RuntimeError unless all machines are online and polled."""
    body = json.loads(TimedRequests(port, "/api/infrastructure").ask())
    online = sum(machine["status"] == "online" for machine in body["machines"])
    if online != MACHINES or body["poller"]["state"] != "running":
        raise RuntimeError(f"{online} machines are online; {body['poller']}")


def _wrk(port: int, path: str, for_s: int) -> tuple[float, float, float]:
    """Requests per second, median and p99 in milliseconds."""
    words = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{for_s}s", "--latency"]
    done = subprocess.run(
        [*words, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(done.stdout)
    found = {
        name: re.search(rf"{name}[: ]+([\d.]+)(us|ms|s)?", done.stdout)
        for name in ("Requests/sec", "50%", "99%")
    }
    rate, p50, p99 = (float(one[1]) * _UNITS_MS.get(one[2], 1.0) for one in found.values() if one is not None)
    return rate, p50, p99
