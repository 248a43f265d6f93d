"""Signed requests: what checking a signature costs, measured with `wrk` and requests signed ahead."""

import re
import subprocess
from pathlib import Path
from statistics import median

from bench.peers import NOT_HERE, is_there
from bench.simulation import simulated
from bench.table import Line, TimedRequests, cpu_s, note, server, wait_until
from request_signing.keys import make_pair, read_private_key
from request_signing.signer import Signer

MACHINES, CONNECTIONS = 100, 16
AGENT, PATH = "bench", "/api/infrastructure"
REQUESTS_PER_S, CPU_MS = 4000, 0.2
_AHEAD_PER_S = 12_000
"""How many requests are signed for each second; no server here answers more."""
_SCRIPT = """
local requests, at = {{}}, 0
for line in io.lines("{file}") do
  local timestamp, nonce, signature = line:match("(%S+) (%S+) (%S+)")
  requests[#requests + 1] = {{
    ["X-Agent-Id"] = "{agent}", ["X-Timestamp"] = timestamp, ["X-Nonce"] = nonce, ["X-Signature"] = signature
  }}
end
request = function()
  at = at + 1
  return wrk.format("GET", nil, requests[at])
end
"""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Send as many signed requests as are answered, and unsigned ones to a server without keys."""
    rounds, round_s = (1, 3) if quick else (3, 5)
    what = f"the same, signed, {CONNECTIONS} connections"
    to_reach = f">= {REQUESTS_PER_S} req/s, <= {CPU_MS} ms of CPU more"
    if not is_there("wrk"):
        return [Line(what, NOT_HERE.format("wrk"), "", None, to_reach)]
    keys = folder / "keys"
    keys.mkdir()
    private, public = make_pair(AGENT)
    (folder / "key").touch(0o600)
    (folder / "key").write_bytes(private)
    (keys / f"{AGENT}.pub").write_bytes(public)
    signer = Signer(AGENT, read_private_key(folder / "key"))
    with simulated(MACHINES) as fleet:
        machines = fleet.declare(folder / "machines")
        with server(folder / "open", machines) as (pid, port):
            wait_until(
                lambda: TimedRequests(port, PATH).ask().count(b'"online"') >= MACHINES, 30, "all online"
            )
            note(f"{CONNECTIONS} connections ask unsigned, {rounds} times {round_s} s")
            unsigned = [_wrk(port, pid, round_s, folder) for _ in range(rounds)]
        settings = {"AUTH_MODE": "enforce", "AUTH_KEYS_DIR": str(keys)}
        with server(folder / "signed", machines, **settings) as (pid, port):
            note(f"{CONNECTIONS} connections ask signed, {rounds} times {round_s} s")
            signed = [_wrk(port, pid, round_s, folder, signer) for _ in range(rounds)]
    rate = median(rate for rate, _ in signed)
    more_ms = median(ms for _, ms in signed) - median(ms for _, ms in unsigned)
    said = f"{rate:.0f} req/s, {more_ms:.2f} ms of CPU more"
    return [Line(what, said, "", None, to_reach, rate >= REQUESTS_PER_S and more_ms <= CPU_MS)]


def _wrk(port: int, pid: int, for_s: int, folder: Path, signer: Signer | None = None) -> tuple[float, float]:
    """Requests per second, and milliseconds of CPU of the server for each."""
    words = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{for_s}s"]
    if signer:
        file, script = folder / "signed.txt", folder / "signed.lua"
        with file.open("w") as lines:
            for _ in range(_AHEAD_PER_S * for_s):
                headers = signer.headers("GET", PATH, version=1)
                lines.write(" ".join(list(headers.values())[1:]) + "\n")
        script.write_text(_SCRIPT.format(file=file, agent=AGENT))
        words += ["-s", str(script)]
    before = cpu_s(pid)
    done = subprocess.run(
        [*words, f"http://127.0.0.1:{port}{PATH}"], capture_output=True, text=True, check=True
    )
    used_s = cpu_s(pid) - before
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(done.stdout)
    found = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found
    assert rate
    return float(rate[1]), 1000 * used_s / int(found[1])
