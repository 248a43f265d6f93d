"""Agents that speak the Model Context Protocol, by the official SDK's client."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import httpx2
from mcp import Client, types
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.auth.agents import Agent
from tests.running import clean_environment

T = TypeVar("T")
ERAS = ("legacy", "2026-07-28")
"""The protocol with a handshake, and the one without."""
DOORS = ("http", "stdio")


class Signed(httpx2.Auth):
    """Signs each request as it will be sent."""

    requires_request_body = True

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add the headers of a signature."""
        target = request.url.raw_path.decode()
        request.headers.update(self._agent.sign(request.method, target, request.content))
        yield request


class Entrance(NamedTuple):
    """How an agent reaches a server: which way, by which protocol, and as whom."""

    url: str
    door: str = "http"
    era: str = ERAS[1]
    agent: Agent | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A connected client."""
        if self.door == "stdio":
            key = {}
            if self.agent:
                key = {
                    "MACHINES_AGENT_ID": self.agent.name,
                    "MACHINES_PRIVATE_KEY": str(self.agent.private_key),
                }
            words = ["-m", "machines_server", "mcp", "--server", self.url]
            command = StdioServerParameters(command=sys.executable, args=words, env=clean_environment(**key))
            async with Client(command, mode=self.era) as client:
                yield client
            return
        auth = Signed(self.agent) if self.agent else None
        async with (
            httpx2.AsyncClient(auth=auth, timeout=30, trust_env=False) as http,
            Client(streamable_http_client(f"{self.url}/mcp", http_client=http), mode=self.era) as client,
        ):
            yield client

    def run(self, use: Callable[[Client], Awaitable[T]]) -> T:
        """What `use` returns for a connected client."""

        async def connected() -> T:
            async with self.client() as client:
                return await use(client)

        return asyncio.run(asyncio.wait_for(connected(), 60))

    def call(self, name: str, /, **arguments: Any) -> types.CallToolResult:
        """The result of a tool."""

        async def use(client: Client) -> types.CallToolResult:
            return await client.call_tool(name, arguments)

        return self.run(use)


def text_of(result: types.CallToolResult) -> str:
    """The text of a result."""
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text
