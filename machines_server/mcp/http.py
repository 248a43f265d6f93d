"""One request of the Model Context Protocol over HTTP, using the SDK; imported only when needed."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from machines_server.mcp.api import AskApi
from machines_server.mcp.protocol import make_server

Message = MutableMapping[str, Any]


async def answer_http(
    ask: AskApi,
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
    max_bytes: int,
) -> None:
    """Answer a POST with JSON; nothing is kept from one request to the next."""
    manager = StreamableHTTPSessionManager(
        make_server(ask), json_response=True, stateless=True, max_request_body_size=max_bytes
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)
