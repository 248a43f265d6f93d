"""A simulated fleet for benchmarks and tests: fake hosts, and the files that declare them."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.answers import address, machine_file
from bench.scripts import Mode, Phase
from bench.table import free_port

HOSTS_PER_PROCESS = 2700
"""A host takes up to six file descriptors, and 20,000 per process are a common limit."""


class Simulation:
    """A running fleet; every host is up, with changing readings, until told otherwise."""

    def __init__(self, count: int, processes: list["subprocess.Popen[str]"], ports: tuple[int, int]) -> None:
        self.count, self.ports = count, ports
        self.pids = [process.pid for process in processes]
        self._processes = processes

    def declare(self, folder: Path, count: int | None = None, first: int = 0) -> Path:
        """Write the machine files of the hosts from `first` to `count` - 1, or of all; returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, self.count if count is None else count):
            (folder / f"host{number}.yaml").write_text(machine_file(number, *self.ports))
        return folder

    def set_phase(self, first: int, end: int, phase: Phase) -> float:
        """Put hosts `first` to `end` - 1 into a phase; returns when all were in it (monotonic)."""
        self._send({"hosts": [first, end], "phase": asdict(phase)})
        for process in self._processes:
            assert process.stdout
            process.stdout.readline()
        return time.monotonic()

    def kill(self, first: int, end: int) -> float:
        """Let half of these hosts refuse connections, and the others be silent."""
        half = (first + end) // 2
        self.set_phase(first, half, Phase(mode=Mode.DEAD))
        return self.set_phase(half, end, Phase(mode=Mode.SILENT))

    def run_scripts(self, span_s: float, in_s: float = 1.0) -> float:
        """Start the scripts of all hosts in `in_s` seconds; returns that time in epoch seconds."""
        at = time.time() + in_s
        self._send({"span_s": span_s, "at": at})
        return at

    def revive(self, first: int, end: int) -> float:
        """Let these hosts answer again."""
        return self.set_phase(first, end, Phase())

    def _send(self, what: object) -> None:
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps(what) + "\n")
            process.stdin.flush()


@contextmanager
def simulated(count: int, per_process: int = HOSTS_PER_PROCESS) -> Iterator[Simulation]:
    """Run fake hosts on addresses of 127.0.0.0/8."""
    ports = free_port(), free_port()
    with ExitStack() as stack:
        processes = []
        for first in range(0, count, per_process):
            numbers = first, min(per_process, count - first)
            command = [sys.executable, "-m", "bench.fleet", *map(str, (*numbers, *ports))]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdin
            stack.callback(process.stdin.close)
            processes.append(process)
        for process in processes:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the fake hosts from {address(0)} on cannot be started")
        yield Simulation(count, processes, ports)
