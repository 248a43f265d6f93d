"""Calling a tool: check its arguments, ask the API, and shorten the answer."""

import asyncio
import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from msgspec import to_builtins

from machines_server.contract.errors import answer_to
from machines_server.core.text import clip, quoted
from machines_server.errors import BadParameterError, MachinesError
from machines_server.mcp.api import ApiReply, ApiRequest, AskApi
from machines_server.mcp.tools import MAX_ENTRIES, TOOLS, Tool

_LARGE_BYTES = 2**16
"""An answer of that size is read in a thread."""
_ERROR_LISTS = ("rejected",)
_MAX_INTEGER = 2**63
"""Encoders and databases take smaller ones."""


class Result(NamedTuple):
    """What a tool returns: the status of the API's answer, and the keys."""

    status: int
    content: dict[str, Any]

    @property
    def is_error(self) -> bool:
        """Whether the call failed; the keys are then those of an error."""
        return self.status >= 400


def tool_named(name: object) -> Tool:
    """The tool with that name; raises BadParameterError."""
    if not isinstance(name, str) or name not in TOOLS:
        similar = get_close_matches(str(name), TOOLS)
        raise BadParameterError("tool", f"is {quoted(str(name))}: use one of {', '.join(TOOLS)}", similar)
    return TOOLS[name]


async def call_tool(ask: AskApi, name: object, arguments: object) -> Result:
    """The result of a tool, which may be an error."""
    try:
        tool = tool_named(name)
        given = _checked(tool, arguments)
        begin, limit = _window(tool, given)
        reply = await ask(_request(tool, given))
    except MachinesError as error:
        found = answer_to(error)
        if found is None:
            return Result(503, {"error": "unavailable", "message": str(error)})
        return Result(found.status, to_builtins(found.content))
    if len(reply.body) < _LARGE_BYTES:
        return _result(tool, reply, begin, limit)
    return await asyncio.to_thread(_result, tool, reply, begin, limit)


def _checked(tool: Tool, arguments: object) -> dict[str, Any]:
    """The arguments except those that are null; raises BadParameterError for unknown and missing ones."""
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise BadParameterError("arguments", "is not a JSON object")
    known = tool.input_schema["properties"]
    for name in arguments:
        if name not in known:
            listed = ", ".join(known) or "none"
            why = f"is not an argument of {tool.name}; it takes {listed}"
            raise BadParameterError(str(name), why, get_close_matches(str(name), known))
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in tool.operation.required:
        if given.get(name) in (None, ""):
            raise BadParameterError(name, "is missing")
    return {**tool.defaults, **given}


def _window(tool: Tool, given: dict[str, Any]) -> tuple[int, int]:
    """The first entry of lists to show, and how many, removed from the arguments."""
    if not tool.lists:
        return 0, MAX_ENTRIES
    return (
        _whole("offset", given.pop("offset", 0), 0, 2**31),
        _whole("limit", given.pop("limit", tool.limit), 1, MAX_ENTRIES),
    )


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadParameterError(name, f"is {clip(repr(value))}: use a whole number from {least} to {most}")
    return value


def _request(tool: Tool, given: Mapping[str, Any]) -> ApiRequest:
    operation, path = tool.operation, tool.operation.path
    for name in operation.in_path:
        path = path.replace(f"{{{name}}}", _as_segment(name, given[name]))
    query = [
        (name, _as_text(name, one))
        for name in operation.in_query & given.keys()
        for one in (given[name] if isinstance(given[name], list) else [given[name]])
    ]
    body = {
        name: _as_json(name, value)
        for name, value in given.items()
        if name not in operation.in_path and name not in operation.in_query
    }
    return ApiRequest(operation.method, path, tuple(query), body if operation.method == "POST" else None)


def _as_segment(name: str, value: object) -> str:
    """A value as one segment of a path: a slash or dots would lead to another path."""
    if not isinstance(value, str):
        raise BadParameterError(name, "is not a string")
    if "/" in value or value in (".", ".."):
        raise BadParameterError(name, f"is {quoted(value)}: a name has no slash and is not just dots")
    return quote(value, safe="", errors="replace")


def _as_json(name: str, value: object) -> object:
    """A value that every JSON encoder takes; Python's parser accepts more numbers than that."""
    match value:
        case float() if not math.isfinite(value):
            raise BadParameterError(name, "is not a finite number")
        case int() if abs(value) >= _MAX_INTEGER:
            raise BadParameterError(name, "is too large")
        case list():
            return [_as_json(name, one) for one in value]
        case dict():
            return {key: _as_json(name, one) for key, one in value.items()}
    return value


def _as_text(name: str, value: object) -> str:
    match value:
        case str():
            return value
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
    raise BadParameterError(name, "has a value that is not a string, a number, true or false")


def _result(tool: Tool, reply: ApiReply, begin: int, limit: int) -> Result:
    try:
        content = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        message = f"The answer, with status {reply.status}, cannot be read: is this a machines-server?"
        return Result(max(reply.status, 502), {"error": "bad_answer", "message": message})
    if reply.status >= 400:
        return Result(reply.status, _shortened(content, _ERROR_LISTS, 0, limit))
    if tool.shape:
        content = tool.shape(content)
    return Result(reply.status, _shortened(content, tool.lists, begin, limit))


def _shortened(content: dict[str, Any], lists: tuple[str, ...], begin: int, limit: int) -> dict[str, Any]:
    more = {}
    for name in lists:
        if isinstance(entries := content.get(name), list):
            content[name] = entries[begin : begin + limit]
            if (left := len(entries) - begin - limit) > 0:
                more[name] = left
    if more:
        what = " and ".join(f"{number} more {name}" for name, number in more.items())
        content |= {
            "more": more,
            "note": f"{what}: call again with offset={begin + limit} or a larger limit.",
        }
    return content
