"""Sidecars that answer in both formats, all in one thread: each has its own address and values."""

import asyncio
import json
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from sidecar.exposition import render
from tests.bodies import gpu_body, http, sidecar_body
from tests.ports import free_port


class Sidecars:
    """As a context manager; by address they answer `samples`, in JSON or as the text of a real sidecar."""

    def __init__(self, count: int) -> None:
        self.port = free_port()
        self.samples: Mapping[str, Any] = {f"127.4.0.{n}": _sample(n) for n in range(1, count + 1)}
        self.scraped: set[str] = set()
        """The addresses that were asked for text."""
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def machine_file(self, address: str, ollama_port: int | None = None) -> str:
        """The file of a machine whose sidecar has that address."""
        network = {"hostname": address, "sidecar_port": self.port}
        network |= {"ollama": False} if ollama_port is None else {"port": ollama_port}
        number = int(address.rpartition(".")[2])
        declared = {
            "name": name_of(address),
            "role": "inference" if number % 2 else "training",
            "tags": ["gpu", f"rack-{number % 3}"] if number % 4 else [],
            "hardware": {},
            "network": network,
            "models": [],
        }
        return json.dumps(declared)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._answer, list(self.samples), self.port)
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("sockname")[0]
        sample = self.samples[address]
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"application/json" in head:
                    writer.write(http(json.dumps(sample).encode()))
                else:
                    self.scraped.add(address)
                    body, kind = render(sample, "")
                    length = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                    writer.write(f"HTTP/1.1 200 OK\r\n{length}".encode() + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


def name_of(address: str) -> str:
    """The name of the machine at an address."""
    return f"host-{address.rpartition('.')[2]}"


def _sample(number: int) -> Any:
    gpus = [gpu_body(card, used_gb=number % 20 + card, uuid=f"GPU-{number}-{card}") for card in range(2)]
    return json.loads(sidecar_body(*gpus, cpu_percent=number, uptime_s=1000 + number))
