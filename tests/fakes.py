"""Fake hosts: real HTTP servers on loopback addresses that answer, stall and die as they are told."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from tests.bodies import http, ollama_body, sidecar_body
from tests.ports import hold_port

T = TypeVar("T")
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


_TURNS = 10
"""Of the event loop: more than it takes to serve what was accepted."""


_ACCEPTED, _QUEUE = 4, 1024
"""Of an endpoint's connections so many are accepted in one turn, since many endpoints run out of descriptors
when each accepts all that have come before it serves any, and so many wait for it."""


class _Connection(asyncio.StreamReaderProtocol):
    """One connection; its endpoint holds it until it is closed, so that none is collected before."""

    def __init__(self, endpoint: "FakeEndpoint") -> None:
        super().__init__(asyncio.StreamReader(), endpoint.serve)
        self._endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop, when TLS has been agreed on if there is any."""
        self._made = cast(asyncio.Transport, transport)
        self._endpoint.open.add(self._made)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop, which then closes the socket."""
        self._endpoint.open.discard(self._made)
        super().connection_lost(error)


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


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
        self._fleet, self.address, self.answer = fleet, address, answer
        self.port = port or fleet.hold_port(address)
        self._tls = tls
        self.answers: dict[str, bytes | None] = {}
        self._script = script
        self.connected = 0
        self.asked_at: list[float] = []
        self.requests: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._stopped = False
        self.open: set[asyncio.Transport] = set()
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
        return len(self.open)

    def start(self) -> None:
        """Accept connections."""
        self._fleet.run(self._start())

    def stop(self) -> None:
        """Refuse connections and close those that are open, as a process that ends does."""
        self._fleet.run(self.close())

    async def _start(self) -> None:
        self._stopped = False
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        listening = socket.create_server((self.address, self.port), family=family)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), sock=listening, ssl=self._tls, backlog=_ACCEPTED
        )
        listening.listen(_QUEUE)

    async def close(self) -> None:
        """Do what `stop` does, in the thread of the fleet."""
        self._stopped = True
        if self._server is not None:
            # asyncio leaves open what it accepted just before its server is closed.
            asyncio.get_running_loop().remove_reader(self._server.sockets[0].fileno())
            await _settle()
            self._server.close()
            for transport in self.open:
                transport.abort()
            self._server = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes over one connection."""
        self.connected += 1
        try:
            while not self._stopped:
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
            writer.transport.abort()


class DeafEndpoint(FakeEndpoint):
    """Its queue of connections is full and nobody takes them from it, so the kernel drops what comes."""

    async def _start(self) -> None:
        self._listening = socket.create_server((self.address, self.port), backlog=0)
        self._queue = [socket.socket() for _ in range(8)]
        for waiting in self._queue:
            waiting.setblocking(False)
            waiting.connect_ex(self._listening.getsockname())

    async def close(self) -> None:
        """Do what `stop` does, in the thread of the fleet."""
        for one in (*self._queue, self._listening):
            one.close()


class FakeFleet:
    """Runs fake endpoints in one thread, as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fakes", daemon=True)
        self._endpoints: list[FakeEndpoint] = []
        self._held: list[socket.socket] = []
        self._ports: dict[int, set[str]] = {}
        """Those that are held, with the addresses that share them; none for one that is not shared."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.run(self._close_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for holder in self._held:
            holder.close()

    def hold_port(self, address: str) -> int:
        """A port at which `address` can listen, stop and listen again; other addresses may share it."""
        shares = address != "0.0.0.0" and ":" not in address
        for port, addresses in self._ports.items():
            if shares and addresses and address not in addresses:
                addresses.add(address)
                return port
        holder = hold_port(address)
        self._held.append(holder)
        new: int = holder.getsockname()[1]
        self._ports[new] = {address} if shares else set()
        return new

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
        future.result(timeout=60)

    async def _close_all(self) -> None:
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints))
        await _settle()  # what is cancelled before it has begun closes nothing
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for endpoint in self._endpoints:
            for transport in endpoint.open:
                transport.abort()
        while any(endpoint.open for endpoint in self._endpoints):
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # the last one is closed in this turn


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


def wait_until(condition: Callable[[], T], within_s: float = 60.0) -> T:
    """The first true value of `condition`; fails when it takes longer than `within_s`.

    It looks less and less often, since looking takes time from whatever is waited for.
    """
    began = time.monotonic()
    while not (value := condition()):
        waited_s = time.monotonic() - began
        assert waited_s < within_s, f"not within {within_s:g} s"
        time.sleep(min(max(0.02, waited_s / 5), 0.1))
    return value
