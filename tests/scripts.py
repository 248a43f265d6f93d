"""Ways in which a fake endpoint answers, or does not."""

import asyncio
import socket
import struct
from itertools import cycle

from tests.fakes import Script

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def say(*parts: bytes) -> Script:
    """Send `parts` and close the connection."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


def drip(head: bytes, drops: bytes, every_s: float = 0.05) -> Script:
    """Send `head`, then one byte of `drops` at a time, for ever."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for drop in cycle(drops):
            writer.write(bytes([drop]))
            await writer.drain()
            await asyncio.sleep(every_s)

    return script


def pour(head: bytes, chunk: bytes) -> Script:
    """Send `head`, then `chunk` again and again as fast as it is taken."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(chunk)
            await writer.drain()

    return script


def reset(*parts: bytes) -> Script:
    """Send `parts` and reset the connection."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    return script
