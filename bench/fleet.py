"""Thousands of fake hosts in one process, each with its own address, sidecar and Ollama.

`python -m bench.fleet FIRST COUNT SIDECAR_PORT OLLAMA_PORT` prints `ready`. Then it reads commands, one JSON
object per line: `{"hosts": [from, to], "phase": {...}}` puts hosts into a phase at once, after which it
prints `done`; `{"span_s": 600, "at": 1234.5}` starts the scripts of all hosts at that time (epoch seconds).
It exits when its standard input is closed.
"""

import asyncio
import json
import random
import resource
import sys
import time
from functools import partial
from typing import Any

import click

from bench.answers import ANY_HOST, address, ollama_answer, sidecar_answers, tags_answer, text_answers
from bench.scripts import Mode, Phase, script_of


class Host:
    """One fake host, which behaves as its current phase says."""

    def __init__(self, number: int, sidecar_port: int, ollama_port: int) -> None:
        self.number, self.phase = number, Phase()
        self._ports = {sidecar_port: self._sidecar, ollama_port: self._ollama}
        self._servers: list[asyncio.Server] = []
        self.transports: set[asyncio.Transport] = set()

    async def enter(self, phase: Phase) -> None:
        """Switch to a phase."""
        self.phase = phase
        if phase.mode == Mode.DEAD:
            for server in self._servers:
                server.close()
            self._servers.clear()
            for transport in list(self.transports):
                transport.abort()
        elif not self._servers:
            loop = asyncio.get_running_loop()
            for port, answer in self._ports.items():
                make = partial(_Connection, self, answer)
                self._servers.append(await loop.create_server(make, address(self.number), port, backlog=8))

    def _sidecar(self, request: bytes) -> bytes:
        if b"application/json" not in request:
            return random.choice(text_answers())
        answers = sidecar_answers()
        answer = random.choice(answers) if self.phase.is_noisy else answers[0]
        return answer.replace(ANY_HOST, b"GPU-%06d" % self.number)

    def _ollama(self, request: bytes) -> bytes:
        if request.startswith(b"GET /api/ps"):
            ahead_s = self.phase.clock_ahead_s
            return ollama_answer(self.phase.models, ahead_s, int(time.time()) if ahead_s else 0)
        return tags_answer() if request.startswith(b"GET /api/tags") else random.choice(text_answers())


class _Connection(asyncio.Protocol):
    """Answers the requests of one connection as the phase of its host says."""

    def __init__(self, host: Host, answer: Any) -> None:
        self._host, self._answer = host, answer
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._host.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio names the parameter
        self._host.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(b"\r\n\r\n"):
            return
        request, self._received = self._received, b""
        phase = self._host.phase
        if phase.mode != Mode.UP:
            return
        if phase.delay_s:
            later = asyncio.get_running_loop().call_later
            later(phase.delay_s, self._transport.write, self._answer(request))
        else:
            self._transport.write(self._answer(request))


async def _run_scripts(hosts: list[Host], span_s: float, began_at: float) -> None:
    """Take every host through the phases of its script."""
    moments = sorted(
        (phase.from_s, host.number, phase, host)
        for host in hosts
        for phase in script_of(host.number, span_s)
    )  # fmt: skip
    for from_s, _, phase, host in moments:
        await asyncio.sleep(max(0.0, began_at + from_s - time.time()))
        await host.enter(phase)


async def _serve(first: int, count: int, sidecar_port: int, ollama_port: int) -> None:
    hosts = {number: Host(number, sidecar_port, ollama_port) for number in range(first, first + count)}
    for host in hosts.values():
        await host.enter(Phase())
    click.echo("ready")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    running: list[asyncio.Task[None]] = []
    while line := await reader.readline():
        command = json.loads(line)
        if "span_s" in command:
            running.append(
                asyncio.create_task(_run_scripts(list(hosts.values()), command["span_s"], command["at"]))
            )
            continue
        phase = Phase(**command["phase"] | {"models": tuple(command["phase"]["models"])})
        for number in range(*command["hosts"]):
            if number in hosts:
                await hosts[number].enter(phase)
        click.echo("done")


@click.command()
@click.argument("first", type=int)
@click.argument("count", type=int)
@click.argument("sidecar_port", type=int)
@click.argument("ollama_port", type=int)
def main(first: int, count: int, sidecar_port: int, ollama_port: int) -> None:
    """Run COUNT fake hosts, numbered from FIRST."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(first, count, sidecar_port, ollama_port))


if __name__ == "__main__":
    main()
