"""The Model Context Protocol over standard input and output."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from machines_server.mcp.api import AskApi
from machines_server.mcp.protocol import make_server

LONGEST_ANSWER_S = 90.0
"""How long requests may still take once standard input has ended; one for a lease can wait for a minute."""
_UNANSWERED_CHECK_S = 0.02

Requests = ObjectReceiveStream[SessionMessage | Exception]
Answers = ObjectSendStream[SessionMessage]


def serve_stdio(ask: AskApi) -> None:
    """Answer until standard input ends; Ctrl-C ends the process, and so does an agent that stops reading."""
    # A thread waits for input, and no exception would end the process before its next line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(_serve(ask))


async def _serve(ask: AskApi) -> None:
    server = make_server(ask)
    output = anyio.wrap_file(_Output(sys.stdout.buffer, encoding="utf-8", newline=""))
    async with stdio_server(stdout=output) as streams, _answering_all(*streams) as (requests, answers):
        await server.run(requests, answers, server.create_initialization_options())


@asynccontextmanager
async def _answering_all(received: Requests, sent: Answers) -> AsyncIterator[tuple[Requests, Answers]]:
    """Streams that end once all requests are answered; the SDK drops those in flight when its input ends."""
    to_server, requests = anyio.create_memory_object_stream[SessionMessage | Exception]()
    answers, from_server = anyio.create_memory_object_stream[SessionMessage]()
    waiting = set[object]()

    async def take() -> None:
        async with to_server:
            async for item in received:
                message = item.message if isinstance(item, SessionMessage) else None
                if isinstance(message, JSONRPCRequest):
                    waiting.add(message.id)
                elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
                    waiting.discard((message.params or {}).get("requestId"))
                await to_server.send(item)
            with anyio.move_on_after(LONGEST_ANSWER_S):
                while waiting:
                    await anyio.sleep(_UNANSWERED_CHECK_S)

    async def give() -> None:
        async for item in from_server:
            await sent.send(item)
            if isinstance(item.message, JSONRPCResponse | JSONRPCError):
                waiting.discard(item.message.id)

    async with received, requests, answers, from_server, sent, anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        tasks.start_soon(give)
        yield requests, answers
        tasks.cancel_scope.cancel()


class _Output(io.TextIOWrapper):
    """Ends the process when nobody reads, since the thread that waits for input would keep it alive."""

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
