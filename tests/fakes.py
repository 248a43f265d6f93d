"""Fake hosts: real HTTP servers on loopback addresses that answer, stall and die as they are told."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

FIXTURES = Path(__file__).parent / "fixtures"
GIB = 2**30
T = TypeVar("T")
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


def gpu_body(index: int, *, used_gb: float, total_gb: float = 24, **changes: Any) -> dict[str, Any]:
    """One GPU as a sidecar reports it."""
    used, total = round(used_gb * GIB), round(total_gb * GIB)
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "model": "24GB consumer GPU",
        "memory_kind": "dedicated",
        "vram_total_bytes": total,
        "vram_used_bytes": used,
        "vram_free_bytes": total - used,
        "utilisation": 47,
        "temperature_c": 61,
        "power_w": 212.5,
    } | changes


def sidecar_body(*gpus: dict[str, Any], **changes: Any) -> bytes:
    """What a sidecar's /metrics answers, with `changes` at the top level."""
    body = {
        "version": 1,
        "hostname": "host",
        "sampled_at": "2026-11-23T17:00:00.123Z",
        "window_s": 1.0,
        "cpu_percent": 12.4,
        "load_avg": [1.1, 0.9, 0.7],
        "cpu_count": 32,
        "ram_total_bytes": 128 * GIB,
        "ram_used_bytes": 38 * GIB,
        "ram_available_bytes": 90 * GIB,
        "disk_total_bytes": 8000 * GIB,
        "disk_used_bytes": 10 * GIB,
        "uptime_s": 12345,
        "gpu": list(gpus),
        "gpu_unreadable": [],
    }
    return json.dumps(body | changes).encode()


def ollama_body(*names: str, **changes: Any) -> bytes:
    """What an Ollama's /api/ps answers when it holds these models."""
    models = [
        {
            "name": name,
            "model": name,
            "size": 4 * GIB,
            "digest": f"{number:064x}"[::-1],
            "expires_at": "2318-12-04T10:11:12.123456789Z",
            "size_vram": 4 * GIB,
            "context_length": 4096,
        }
        | changes
        for number, name in enumerate(names, 1)
    ]
    return json.dumps({"models": models}).encode()


def tags_body(*models: tuple[str, str, int]) -> bytes:
    """What an Ollama's /api/tags answers with these models on disk: name, digest, bytes."""
    return json.dumps(
        {
            "models": [
                {
                    "name": name,
                    "model": name,
                    "modified_at": "2026-11-23T17:00:00.123456789+01:00",
                    "size": size,
                    "digest": digest,
                    "details": {"format": "gguf", "quantization_level": "Q4_K_M"},
                }
                for name, digest, size in models
            ]
        }
    ).encode()


def http(body: bytes, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class FakeEndpoint:
    """One listening address; `answer` is sent to every request, and None is silence.

    `answers` has what is sent for a path instead. A `script`, if there is one, answers all; the connection is
    closed when it ends. With `tls` it speaks nothing else.
    """

    def __init__(
        self,
        fleet: "FakeFleet",
        address: str,
        port: int,
        answer: bytes | None,
        script: Script | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._fleet, self.address, self.port, self.answer = fleet, address, port, answer
        self._tls = tls
        self.answers: dict[str, bytes | None] = {}
        self._script = script
        self.connected = 0
        self.asked_at: list[float] = []
        self.requests: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.start()

    def url(self, path: str = "/", host: str | None = None) -> str:
        """Where it is asked; `host` is another name of its address."""
        host = host or self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(request.split(b" ")[1] == path.encode() for request in self.requests)

    @property
    def open_connections(self) -> int:
        """How many connections are open now; `connected` is how many there have ever been."""
        return len(self._writers)

    def start(self) -> None:
        """Accept connections."""
        self._fleet.run(self._start())

    def stop(self) -> None:
        """Refuse connections and close those that are open, as a process that ends does."""
        self._fleet.run(self._stop())

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connected += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked_at.append(time.monotonic())
                if self._script is not None:
                    await self._script(writer)
                    writer.close()
                    return await writer.wait_closed()
                path = self.requests[-1].split(b" ")[1].decode()
                answer = self.answers.get(path, self.answer)
                if answer is None:
                    await reader.read()  # until the other side closes
                    return None
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return None
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


class DeafEndpoint(FakeEndpoint):
    """Its queue of connections is full and nobody takes them from it, so the kernel drops what comes."""

    async def _start(self) -> None:
        self._listening = socket.create_server((self.address, self.port), backlog=0)
        self.port = self._listening.getsockname()[1]
        self._queue = [socket.socket() for _ in range(8)]
        for waiting in self._queue:
            waiting.setblocking(False)
            waiting.connect_ex(self._listening.getsockname())

    async def _stop(self) -> None:
        for one in (*self._queue, self._listening):
            one.close()


class FakeFleet:
    """Runs fake endpoints in one thread, as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fakes", daemon=True)
        self._endpoints: list[FakeEndpoint] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for endpoint in self._endpoints:
            endpoint.stop()
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(
        self,
        answer: bytes | None,
        address: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> FakeEndpoint:
        """A new endpoint that sends `answer` (a whole HTTP answer) to every request."""
        endpoint = FakeEndpoint(self, address, port, answer, tls=tls)
        self._endpoints.append(endpoint)
        return endpoint

    def scripted(self, script: Script, address: str = "127.0.0.1") -> FakeEndpoint:
        """A new endpoint that lets `script` answer every request."""
        endpoint = FakeEndpoint(self, address, 0, None, script)
        self._endpoints.append(endpoint)
        return endpoint

    def deaf(self, address: str = "127.0.0.1") -> FakeEndpoint:
        """A new endpoint that never takes a connection."""
        endpoint = DeafEndpoint(self, address, 0, None)
        self._endpoints.append(endpoint)
        return endpoint

    def sidecar(self, *gpus: dict[str, Any], address: str = "127.0.0.1") -> FakeEndpoint:
        """A sidecar that answers."""
        return self.listen(http(sidecar_body(*gpus)), address)

    def ollama(self, *models: str, address: str = "127.0.0.1") -> FakeEndpoint:
        """An Ollama that holds `models`."""
        return self.listen(http(ollama_body(*models)), address)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one coroutine in the fleet's thread."""
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(timeout=10)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def machine_yaml(
    name: str,
    sidecar: FakeEndpoint | None,
    ollama: FakeEndpoint | None,
    models: tuple[str, ...] = (),
    *,
    hostname: str | None = None,
) -> str:
    """A machine file for fake endpoints; None declares that there is none."""
    address = hostname or (sidecar.address if sidecar else ollama.address if ollama else "127.0.0.1")
    network = {
        "hostname": address,
        "port": ollama.port if ollama else 11434,
        "sidecar_port": sidecar.port if sidecar else 3039,
    }
    if sidecar is None:
        network["sidecar"] = False
    if ollama is None:
        network["ollama"] = False
    return json.dumps({"name": name, "role": "test", "hardware": {}, "network": network, "models": models})


def wait_until(condition: Callable[[], T], within_s: float = 10.0) -> T:
    """The first true value of `condition`; fails when it takes longer than `within_s`."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.02)
    return value
