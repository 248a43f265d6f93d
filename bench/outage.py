"""Half of a fleet dies at once: how soon that is reported, and how soon the others' samples are visible."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from bench.answers import sidecar_answers
from bench.scripts import Mode, Phase
from bench.simulation import Simulation, simulated
from bench.table import Line, TimedRequests, Times, limited, note, server, wait_until

NUMBERED_HOSTS = 4


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Kill half of the hosts several times, then let half of them hang while watching some live ones."""
    hosts, rounds, interval_s, timeout_s = (300, 1, 2, 1) if quick else (1000, 2, 5, 2)
    settings = {"MACHINES_POLL_INTERVAL_S": str(interval_s), "MACHINES_POLL_TIMEOUT_S": str(timeout_s)}
    half = hosts // 2
    with simulated(hosts) as fleet, _numbered_hosts() as numbered_hosts:
        machines = fleet.declare(folder / "machines")
        for numbered_host in numbered_hosts:
            numbered_host.declare(machines)
        note(f"{half} of {hosts} fake hosts die at once, {rounds} times, and hang once")
        with server(folder, machines, **settings) as (_, port):
            _wait_for(port, "online", range(hosts), 60)
            time.sleep(2 * interval_s)  # both workers have read all files by then
            slowest, typical = [], []
            for turn in range(rounds + 1):
                _wait_for_cycle(port)  # just after they were polled is the worst case
                time.sleep(interval_s * turn / (rounds + 1))
                hang = turn == rounds
                if hang:
                    for numbered_host in numbered_hosts:
                        numbered_host.watch(port)
                died_at = fleet.set_phase(0, half, Phase(mode=Mode.SILENT)) if hang else fleet.kill(0, half)
                seen_s = [at - died_at for at in _wait_for(port, "offline", range(half), 30)]
                slowest.append(max(seen_s))
                typical.append(median(seen_s))
                time.sleep((4 if hang else 1) * interval_s)
                if not hang:
                    _revive(fleet, port)
            late_ms = Times([ms for numbered_host in numbered_hosts for ms in numbered_host.late_ms()])
    dead = f"{half} of {hosts} hosts die -> offline, slowest"
    live = f"a live host's sample seen while {half} hang, latest"
    return [
        limited(dead, max(slowest), "s", interval_s + timeout_s + 0.5, f", median {median(typical):.2f} s"),
        limited(live, max(late_ms.ms) / 1000, "s", 0.3, f", {late_ms}"),
    ]


def _revive(fleet: Simulation, port: int) -> None:
    fleet.revive(0, fleet.count // 2)
    _wait_for(port, "online", range(fleet.count), 30)


def _wait_for_cycle(port: int) -> None:
    """Wait until a poll cycle has just ended."""
    health = TimedRequests(port, "/health")

    def last() -> str:
        ended_at: str = json.loads(health.ask())["poller"]["last_cycle_at"]
        return ended_at

    before = last()
    while last() == before:
        time.sleep(0.02)


def _wait_for(port: int, status: str, numbers: range, within_s: float) -> list[float]:
    """Wait for the hosts to have a status; returns when each was first seen in it (monotonic)."""
    waiting, seen = {f"host{number}" for number in numbers}, list[float]()
    etag = ""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:

        def look() -> bool:
            nonlocal etag
            connection.request("GET", "/api/infrastructure", headers={"If-None-Match": etag})
            response = connection.getresponse()
            body, etag = response.read(), response.headers.get("ETag", "")
            at = time.monotonic()
            if response.status == 200:
                for machine in json.loads(body)["machines"]:
                    if machine["status"] == status and machine["name"] in waiting:
                        waiting.remove(machine["name"])
                        seen.append(at)
            return not waiting

        wait_until(look, within_s, f"{len(waiting)} hosts are {status}")
    return seen


class _NumberedHost(ThreadingHTTPServer):
    """A sidecar or an Ollama that numbers its responses, so that each can be recognised in our answers.

    The number is the uptime that a sidecar reports, and the size of a model that an Ollama reports.
    """

    daemon_threads = True

    def __init__(self, number: int) -> None:
        super().__init__(("127.0.0.1", 0), _NumberedHandler)
        self.name, self.is_ollama = f"canary{number}", number % 2 == 1
        self._answered: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._ended = threading.Event()
        self._watcher: threading.Thread

    def declare(self, folder: Path) -> None:
        ours = {"port": self.server_port, "sidecar": False}
        theirs = {"sidecar_port": self.server_port, "ollama": False}
        network = {"hostname": "127.0.0.1"} | (ours if self.is_ollama else theirs)
        machine = {"name": self.name, "role": "canary", "hardware": {}, "network": network, "models": []}
        (folder / f"{self.name}.yaml").write_text(json.dumps(machine))

    def next_answer(self, path: str) -> bytes:
        if path == "/api/tags":
            return b'{"models": []}'
        number = len(self._answered) + 1
        content = self._numbered(number)
        self._answered[number] = time.monotonic()
        return content

    def _numbered(self, number: int) -> bytes:
        if self.is_ollama:
            return json.dumps({"models": [{"name": "counter", "size": number}]}).encode()
        body = sidecar_answers()[0].partition(b"\r\n\r\n")[2]
        return json.dumps(json.loads(body) | {"uptime_s": number}).encode()

    def watch(self, port: int) -> None:
        self._watcher = threading.Thread(target=self._watch, args=[port], daemon=True)
        self._watcher.start()

    def _watch(self, port: int) -> None:
        with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            while not self._ended.wait(0.02):
                connection.request("GET", f"/api/machines/{self.name}")
                try:
                    machine: dict[str, Any] = json.loads(connection.getresponse().read())
                except RemoteDisconnected:  # idle for too long, as when the whole machine stood still
                    continue
                models = machine["ollama"]["models"]
                number = models[0]["size_bytes"] if models else machine["telemetry"].get("uptime_s", 0)
                self._seen.setdefault(number, time.monotonic())

    def late_ms(self) -> list[float]:
        """How long after each response it, or a later one, was visible.

        Those before the watch do not count, nor those of the last second that are not visible yet.
        """
        self._ended.set()
        self._watcher.join()
        ended, first = time.monotonic(), min(self._seen)
        late = []
        for number, at in self._answered.items():
            seen = min((moment for other, moment in self._seen.items() if other >= number), default=ended)
            if number > first and (seen < ended or ended - at > 1):
                late.append((seen - at) * 1000)
        return late


class _NumberedHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _NumberedHost

    def do_GET(self) -> None:
        content = self.server.next_answer(self.path)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
        self.wfile.write(head.encode() + content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the standard library names it
        pass


@contextmanager
def _numbered_hosts() -> Iterator[list[_NumberedHost]]:
    numbered_hosts = [_NumberedHost(number) for number in range(NUMBERED_HOSTS)]
    for numbered_host in numbered_hosts:
        threading.Thread(target=numbered_host.serve_forever, daemon=True).start()
    try:
        yield numbered_hosts
    finally:
        for numbered_host in numbered_hosts:
            numbered_host.shutdown()
            numbered_host.server_close()
