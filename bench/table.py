"""The lines of the printed table, and helpers to run and query a server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles

import click
import psutil


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement, with that of the peer in the same run and the goal."""

    what: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    to_reach: str = ""
    is_reached: bool | None = None
    """None without a goal, or without the peer to compare with."""


def compared(what: str, ours: str, peer: str, ratio: float | None, at_most: float) -> Line:
    """A line with a goal for the ratio to the peer, which is None if the peer is not installed."""
    return Line(what, ours, peer, ratio, f"<= {at_most:g} x", None if ratio is None else ratio <= at_most)


def limited(what: str, value: float, unit: str, at_most: float, more: str = "", peer: str = "") -> Line:
    """A line with a goal for `value`, which `more` follows in the table."""
    return Line(what, f"{value:.3g} {unit}{more}", peer, None, f"<= {at_most:g} {unit}", value <= at_most)


def show(lines: Sequence[Line]) -> None:
    """Print the table."""
    rows = [("what", "machines-server", "peer", "ratio", "goal", "reached")]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f} x"
        reached = {True: "yes", False: "NO", None: ""}[line.is_reached]
        rows.append((line.what, line.ours, line.peer, ratio, line.to_reach, reached))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def note(text: str) -> None:
    """Print progress on standard error."""
    click.echo(f"... {text}", err=True)


@dataclass(frozen=True, slots=True)
class Times:
    """How long repetitions of the same thing took, in milliseconds."""

    ms: Sequence[float]

    @property
    def median(self) -> float:
        """The median."""
        return median(self.ms)

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return quantiles(self.ms, n=100)[98]

    def __str__(self) -> str:
        return f"{self.median:.2f} ms, p99 {self.p99:.2f}"


class TimedRequests:
    """Sends the same request over kept-alive connections in turn, and records how long each took."""

    def __init__(self, port: int, path: str, status: int = 200, connections: int = 1) -> None:
        """`status` is what every answer must have."""
        self._connections = cycle([HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(connections)])
        self._first = connections
        self._path, self._status, self._ms = path, status, list[float]()

    def ask(self, times: int = 1) -> bytes:
        """Send the request `times` times; returns the last body. Raises RuntimeError for another status."""
        body = b""
        for _ in range(times):
            began = time.perf_counter()
            connection = next(self._connections)
            connection.request("GET", self._path)
            response = connection.getresponse()
            body = response.read()
            self._ms.append((time.perf_counter() - began) * 1000)
            if response.status != self._status:
                raise RuntimeError(f"{self._path}: {response.status} {body!r}")
        return body

    def times(self) -> Times:
        """The times recorded, without the first request of each connection, which is a warm-up."""
        return Times(self._ms[self._first :])


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait until a condition holds; raises RuntimeError after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        time.sleep(0.1)


def answers(port: int, path: str) -> Callable[[], bool]:
    """A condition: the server answers a path with 200."""

    def answered() -> bool:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    return answered


def machines_server(word: str) -> list[str]:
    """The command line of a command of machines-server."""
    return [sys.executable, "-m", "machines_server", word]


@contextmanager
def server(folder: Path, machines: Path, **settings: str) -> Iterator[tuple[int, int]]:
    """Run `machines-server serve` with default settings in `folder`; yields its process id and port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = os.environ | {
        "MACHINES_DIR": str(machines),
        "MACHINES_DATA_DIR": str(folder / "var"),
        "MACHINES_PORT": str(port),
    }
    with running(machines_server("serve"), folder / "serve.log", **environment | settings) as process:
        wait_until(answers(port, "/health"), 30, "the server answers")
        yield process.pid, port


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its children have used, as the operating system counts them."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)
