"""The Model Context Protocol over standard input and output."""

import asyncio
import io
import os
import signal
import sys

import anyio
from mcp.server.stdio import stdio_server

from machines_server.mcp.api import AskApi
from machines_server.mcp.protocol import make_server


def serve_stdio(ask: AskApi) -> None:
    """Answer until standard input ends; Ctrl-C ends the process, and so does an agent that reads no more."""
    # A thread waits for input, and no exception would end the process before its next line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(_serve(ask))


async def _serve(ask: AskApi) -> None:
    server = make_server(ask)
    output = anyio.wrap_file(_Output(sys.stdout.buffer, encoding="utf-8", newline=""))
    async with stdio_server(stdout=output) as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


class _Output(io.TextIOWrapper):
    """Ends the process when nobody reads, since the thread that waits for input would keep it."""

    def flush(self) -> None:
        """Send what was written."""
        try:
            super().flush()
        except BrokenPipeError:
            os._exit(1)
        except OSError as error:
            sys.stderr.write(f"machines-server: The answer cannot be written: {error.strerror}.\n")
            sys.stderr.flush()
            os._exit(1)
