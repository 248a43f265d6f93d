"""Requests at a steady rate, each sent when it is due, whether or not earlier ones have been answered.

So do agents that know nothing of each other. A client that waits for each answer before it sends the next
request asks least while the server is slow: of an answer that takes 80 ms it sees one, where agents that ask
every 10 ms would have had eight ("coordinated omission", https://github.com/giltene/wrk2#acknowledgements).
"""

import asyncio
import re
import time

from bench.table import Times

_LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


def asked_at_a_rate(
    port: int, path: str, status: int, every_s: float, lasts_s: float, connections: int
) -> Times:
    """How long answers took, from the moments at which their requests were due.

    Raises ExceptionGroup: of RuntimeError for another status, of TimeoutError if all kept-alive connections
    were in use for a second.
    """
    return Times(asyncio.run(_Client(port, path, status).ask(every_s, lasts_s, connections)))


class _Client:
    def __init__(self, port: int, path: str, status: int) -> None:
        self._port, self._path, self._status = port, path, status
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        self._free = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
        self._ms: list[float] = []

    async def ask(self, every_s: float, lasts_s: float, connections: int) -> list[float]:
        """Send requests for `lasts_s` seconds, and return the times of their answers in milliseconds."""
        for _ in range(connections):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port, limit=2**20))
        async with asyncio.TaskGroup() as answers:
            for _ in range(connections):
                answers.create_task(self._answer(time.monotonic()))
        self._ms.clear()  # the first request of each connection was a warm-up
        due = time.monotonic()
        until = due + lasts_s
        async with asyncio.TaskGroup() as answers:
            while due < until:
                await asyncio.sleep(due - time.monotonic())
                answers.create_task(self._answer(due))
                due += every_s
        while not self._free.empty():
            self._free.get_nowait()[1].close()
        return self._ms

    async def _answer(self, due: float) -> None:
        connection = await asyncio.wait_for(self._free.get(), 1)
        reader, writer = connection
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 %d " % self._status) or not length:
            raise RuntimeError(f"{self._path}: {head!r}")
        await reader.readexactly(int(length[1]))
        self._ms.append((time.monotonic() - due) * 1000)
        self._free.put_nowait(connection)
