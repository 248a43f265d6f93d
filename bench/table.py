"""The lines of the printed table, and the processes and folders that a benchmark uses."""

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
    """What was measured, beside the peer in the same run and what is to be reached."""

    what: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    to_reach: str = ""
    is_reached: bool | None = None
    """None where nothing is to be reached, or where the peer is not there to compare with."""


def compared(what: str, ours: str, peer: str, ratio: float | None, at_most: float) -> Line:
    """A line whose figure is the ratio to the peer, None if the peer is not there."""
    return Line(what, ours, peer, ratio, f"<= {at_most:g} x", None if ratio is None else ratio <= at_most)


def limited(what: str, value: float, unit: str, at_most: float, more: str = "", peer: str = "") -> Line:
    """A line whose figure is `value`; `more` is said after it."""
    return Line(what, f"{value:.3g} {unit}{more}", peer, None, f"<= {at_most:g} {unit}", value <= at_most)


def show(lines: Sequence[Line]) -> None:
    """Print the table."""
    rows = [("what", "machines-server", "peer", "ratio", "to reach", "reached")]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f} x"
        reached = {True: "yes", False: "NO", None: ""}[line.is_reached]
        rows.append((line.what, line.ours, line.peer, ratio, line.to_reach, reached))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def note(text: str) -> None:
    """Say what is going on, apart from the table."""
    click.echo(f"... {text}", err=True)


@dataclass(frozen=True, slots=True)
class Times:
    """How long the same thing lasted, many times, in milliseconds."""

    ms: Sequence[float]

    @property
    def median(self) -> float:
        """Half of them were faster."""
        return median(self.ms)

    @property
    def p99(self) -> float:
        """All but one in a hundred were faster."""
        return quantiles(self.ms, n=100)[98]

    def __str__(self) -> str:
        return f"{self.median:.2f} ms, p99 {self.p99:.2f}"


class Asker:
    """Asks one server over kept-alive connections in turn, and keeps how long each answer took."""

    def __init__(self, port: int, path: str, status: int = 200, connections: int = 1) -> None:
        """Raises RuntimeError at an answer with another status."""
        self._connections = cycle([HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(connections)])
        self._first = connections
        self._path, self._status, self._ms = path, status, list[float]()

    def ask(self, times: int = 1) -> bytes:
        """The last answer of `times`."""
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
        """What was measured after the first answer of each connection, which warms up and does not count."""
        return Times(self._ms[self._first :])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
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
    """Until it is true; raises RuntimeError when it takes longer."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        time.sleep(0.1)


def answers(port: int, path: str) -> Callable[[], bool]:
    """Whether a server answers 200 there."""

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
    """The command line of `machines-server`."""
    return [sys.executable, "-m", "machines_server", word]


@contextmanager
def server(folder: Path, machines: Path, **settings: str) -> Iterator[tuple[int, int]]:
    """`machines-server serve` with its defaults, writing into `folder`; its process id and port."""
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
    """CPU seconds of a process and its children, as the operating system accounts for them."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)
