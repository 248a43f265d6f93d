"""The Model Context Protocol over standard input and output."""

import asyncio

from mcp.server.stdio import stdio_server

from machines_server.mcp.api import AskApi
from machines_server.mcp.protocol import make_server


def serve_stdio(ask: AskApi) -> None:
    """Answer until standard input ends."""
    asyncio.run(_serve(ask))


async def _serve(ask: AskApi) -> None:
    server = make_server(ask)
    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())
