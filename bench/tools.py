"""A tool for agents over HTTP, in both generations of the Model Context Protocol."""

import json
import time
from http.client import HTTPConnection
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

from bench.peers import NOT_HERE
from bench.simulation import simulated
from bench.table import Line, Times, answers, note, server, wait_until

HOSTS, CALLS, WARM_UPS, CALLERS = 1000, 500, 20, 8
P99_MS = 20.0
ARGUMENTS = {"model": "llama3.1:70b"}
MODERN = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ERAS = {
    "2025-11-25": ({}, {}),
    MODERN: ({"Mcp-Method": "tools/call", "Mcp-Name": "pick_machine"}, {"_meta": _META}),
}
"""By version of the protocol, the headers and parameters that it needs besides the common ones."""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Call `pick_machine` again and again while the machines are polled."""
    if find_spec("mcp") is None:
        return [Line("MCP pick_machine", NOT_HERE.format("mcp"), "", None, f"p99 <= {P99_MS:g} ms")]
    hosts, calls = (100, 100) if quick else (HOSTS, CALLS)
    with simulated(hosts) as fleet, server(folder, fleet.declare(folder / "machines")) as (_, port):
        wait_until(answers(port, "/api/route?model=llama3.1:70b"), 60, "the first poll")
        note(f"{calls} calls of pick_machine about {hosts} machines, by each of {len(ERAS)} versions of MCP")
        return [_called(port, version, hosts, calls) for version in ERAS]


def _called(port: int, version: str, hosts: int, calls: int) -> Line:
    headers, parameters = ERAS[version]
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "pick_machine", "arguments": ARGUMENTS, **parameters},
    }
    sent = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
        **headers,
    }
    connections = cycle([HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(CALLERS)])
    ms = list[float]()
    for _ in range(WARM_UPS + calls):
        began = time.perf_counter()
        connection = next(connections)
        connection.request("POST", "/mcp", json.dumps(body), sent)
        response = connection.getresponse()
        content = response.read()
        ms.append((time.perf_counter() - began) * 1000)
        if response.status != 200 or b'"machine"' not in content:
            raise RuntimeError(f"{version}: {response.status} {content!r}")
    times = Times(ms[WARM_UPS:])
    reached = times.p99 <= P99_MS
    what = f"MCP {version}, pick_machine, {hosts} machines"
    return Line(what, str(times), "", None, f"p99 <= {P99_MS:g} ms", reached)
