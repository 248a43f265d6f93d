"""Tools for agents, over standard input and output."""

import asyncio
from typing import cast

from machines_client.flows import MAX_WAIT_S, Flow, Send
from machines_client.messages import Reply, Request
from machines_client.parameters import Value
from machines_server.cli.command import command
from machines_server.cli.http import REQUEST_TIMEOUT_S, client_errors, client_of, server_option
from machines_server.client import Client
from machines_server.errors import BadRequestError
from machines_server.mcp.api import INSTALL, ApiReply, ApiRequest, AskApi, lacks_package


@command(
    "mcp",
    examples=[
        ("machines-server mcp", "Offer the tools to the agent that started it"),
        ("claude mcp add machines -- machines-server mcp", "Have Claude Code start it"),
    ],
)
@server_option
def mcp(server: str) -> None:
    """Offer tools to an agent through the Model Context Protocol, over standard input and output.

    An agent's configuration names this command. It asks the server over HTTP, and signs if
    MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY are set.
    """
    try:
        from machines_server.mcp.stdio import serve_stdio  # takes a second
    except ImportError as error:
        if not lacks_package(error):
            raise
        raise BadRequestError(INSTALL) from None
    serve_stdio(asking(client_of(server, timeout_s=REQUEST_TIMEOUT_S)))


def asking(client: Client) -> AskApi:
    """Asks the API over HTTP, in threads."""

    def ask(request: ApiRequest) -> ApiReply:
        query: dict[str, Value] = {}
        for name in dict(request.query):
            query[name] = [value for key, value in request.query if key == name]
        sent = Request(request.method, request.path, query, cast("dict[str, Value] | None", request.body))
        with client_errors():
            reply = client.run(_replied(sent, REQUEST_TIMEOUT_S + _wait_s(request)))
        return ApiReply(reply.status, reply.content)

    async def ask_in_thread(request: ApiRequest) -> ApiReply:
        return await asyncio.to_thread(ask, request)

    return ask_in_thread


def _replied(request: Request, timeout_s: float) -> Flow[Reply]:
    """Whatever the server replies, errors included: a tool returns them."""
    reply: Reply = yield Send(request, timeout_s)
    return reply


def _wait_s(request: ApiRequest) -> float:
    """How long the server may wait before it answers."""
    wait_s = dict(request.query).get("wait_s") or (request.body or {}).get("wait_s")
    try:
        return min(max(float(str(wait_s or 0)), 0.0), MAX_WAIT_S)
    except ValueError:
        return 0.0
