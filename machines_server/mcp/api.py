"""How a tool asks the API: over HTTP, or inside the server without a connection."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

INSTALL = "MCP needs the Python package mcp, which is not installed here: pip install 'machines-server[mcp]'."


class ApiRequest(NamedTuple):
    """A request to the API."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: dict[str, object] | None = None


class ApiReply(NamedTuple):
    """Status and body of its answer."""

    status: int
    body: bytes


AskApi = Callable[[ApiRequest], Awaitable[ApiReply]]
"""Sends a request with the rights of whoever calls the tool; raises MachinesError if there is no answer."""


def lacks_package(error: ImportError) -> bool:
    """Return whether the package, or one that it needs, is not installed."""
    return (error.name or "").partition(".")[0] != __name__.partition(".")[0]
