"""Tools for agents: POST /mcp for the Model Context Protocol, and the older GET /mcp/tools, POST /mcp/call.

Tools ask the layers inside, with the rights of whoever sent the request.
"""

import asyncio
import importlib
import logging
from typing import Any
from urllib.parse import unquote, urlencode

import orjson

from machines_server.contract.encoding import encode
from machines_server.contract.errors import answer_to, error_json
from machines_server.contract.requests import validated
from machines_server.contract.tools import ToolCall, ToolDescription, Tools
from machines_server.errors import BadParameterError, StoreError
from machines_server.mcp.api import INSTALL, ApiReply, ApiRequest, AskApi, lacks_package
from machines_server.mcp.envelope import refusal_of
from machines_server.web.bodies import Bodies, replaying
from machines_server.web.messages import (
    JSON_TYPE,
    MAX_REQUEST_BYTES,
    NO_SNIFF,
    Application,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    header,
)

log = logging.getLogger(__name__)

MCP_PATH, TOOLS_PATH, CALL_PATH = "/mcp", "/mcp/tools", "/mcp/call"
TOOL_METHODS = {MCP_PATH: ("POST",), TOOLS_PATH: ("GET", "HEAD"), CALL_PATH: ("POST",)}
"""What each path supports besides OPTIONS."""


class ToolEndpoints:
    """Answers the paths of tools; passes on all other requests. Nothing is imported before the first one."""

    def __init__(self, application: Application) -> None:
        self._application, self._bodies = application, Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path, method = scope["path"], scope["method"]
        if path not in TOOL_METHODS:
            await self._application(scope, receive, send)
        elif method == "OPTIONS":
            await _send_json(scope, send, 200, b"", allow=path)
        elif method not in TOOL_METHODS[path]:
            listed = ", ".join((*TOOL_METHODS[path], "OPTIONS"))
            message = f"This path does not support {method}; it supports {listed}."
            await _send_json(scope, send, 405, error_json("method_not_allowed", message), allow=path)
        elif path == TOOLS_PATH:
            await _send_json(scope, send, 200, await asyncio.to_thread(_listed))
        else:
            await self._with_body(scope, receive, send)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._bodies.receive(scope, receive, send)
        if body is None:
            return
        disconnection = _Disconnection(receive)
        try:
            if scope["path"] == CALL_PATH:
                await self._call(scope, body, disconnection, send)
            else:
                await self._mcp(scope, body, disconnection, send)
        finally:
            disconnection.close()
            self._bodies.release(body)

    async def _call(self, scope: Scope, body: bytes, disconnection: Receive, send: Send) -> None:
        try:
            asked = validated(ToolCall, orjson.loads(body))
        except orjson.JSONDecodeError as error:
            await answer_error(scope, send, 400, "bad_request", f"The body is not JSON: {error.msg}.")
            return
        except BadParameterError as error:
            found = answer_to(error)
            await _send_json(scope, send, 400, encode(found and found.content))
            return
        calls = await _imported("machines_server.mcp.calls")
        result = await calls.call_tool(self._asking(scope, disconnection), asked.tool, asked.args)
        content = result.content if result.is_error else {"result": result.content}
        await _send_json(scope, send, result.status if result.is_error else 200, encode(content))

    async def _mcp(self, scope: Scope, body: bytes, disconnection: Receive, send: Send) -> None:
        media = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
        if media != JSON_TYPE.encode():
            message = f"The header Content-Type must be {JSON_TYPE}."
            await answer_error(scope, send, 400, "bad_request", message)
            return
        if refusal := refusal_of(body):
            await _send_json(scope, send, 400, refusal)
            return
        try:
            http = await _imported("machines_server.mcp.http")
        except ImportError as error:
            if not lacks_package(error):
                raise
            await answer_error(scope, send, 501, "not_installed", INSTALL)
            return
        # The SDK compares types case-sensitively, and treats a missing Accept as a refusal.
        headers = [one for one in scope["headers"] if one[0] != b"content-type"]
        headers.append((b"content-type", JSON_TYPE.encode()))
        if header(scope, b"accept") is None:
            headers.append((b"accept", b"*/*"))
        inner = {**scope, "headers": headers}
        ask, received = self._asking(scope, disconnection), replaying(body, disconnection)
        await http.answer_http(ask, inner, received, send, MAX_REQUEST_BYTES)

    def _asking(self, scope: Scope, disconnection: Receive) -> AskApi:
        """Asks the layers inside on behalf of the sender of a request, and lets them notice if it leaves."""

        async def ask(request: ApiRequest) -> ApiReply:
            body = b"" if request.body is None else orjson.dumps(request.body)
            host = header(scope, b"host")
            inner = {
                **scope,
                "method": request.method,
                "path": unquote(request.path),
                "raw_path": request.path.encode(),
                "query_string": urlencode(request.query).encode(),
                "headers": [*([(b"host", host)] if host else []), (b"content-length", b"%d" % len(body))],
            }
            return ApiReply(*await _answered(self._application, inner, replaying(body, disconnection)))

        return ask


class _Disconnection:
    """Tells everyone who asks when a client has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._message: asyncio.Future[Message] | None = None

    async def __call__(self) -> Message:
        if self._message is None:
            self._message = asyncio.ensure_future(self._receive())
        return await asyncio.shield(self._message)

    def close(self) -> None:
        if self._message is not None:
            self._message.cancel()


async def _answered(application: Application, scope: Scope, receive: Receive) -> tuple[int, bytes]:
    """Status and body of an application's answer; raises StoreError if there is none."""
    sent: list[Message] = []

    async def capture(message: Message) -> None:
        sent.append(message)

    await application(scope, receive, capture)
    if not sent:
        raise StoreError("the request was abandoned")
    start, *bodies = sent
    return start["status"], b"".join(one.get("body", b"") for one in bodies)


async def _imported(name: str) -> Any:
    """A module, imported in a thread, since that may take a second."""
    return await asyncio.to_thread(importlib.import_module, name)


def _listed() -> bytes:
    from machines_server.mcp.tools import TOOLS

    tools = [ToolDescription(tool.name, tool.description, tool.input_schema) for tool in TOOLS.values()]
    return encode(Tools(tools))


async def _send_json(scope: Scope, send: Send, status: int, content: bytes, *, allow: str = "") -> None:
    headers = [
        (b"content-type", JSON_TYPE.encode()),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
        NO_SNIFF,
    ]
    if allow:
        headers.append((b"allow", ", ".join((*TOOL_METHODS[allow], "OPTIONS")).encode()))
    await answer(scope, send, status, headers, content)
