"""The server of the Model Context Protocol, using its official SDK; imported only when needed."""

import logging
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Never
from urllib.parse import quote, unquote

import orjson
from mcp import types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from machines_server.core.text import quoted
from machines_server.errors import MachinesError
from machines_server.mcp.api import ApiRequest, AskApi
from machines_server.mcp.calls import Result, call_tool
from machines_server.mcp.tools import TOOLS, Tool

log = logging.getLogger(__name__)
logging.getLogger("mcp").setLevel(logging.WARNING)

SCHEME = "machine://"
YAML = "application/yaml"
PAGE = 100
"""How many resources are listed at a time."""
INSTRUCTIONS = """\
These tools know machines that run Ollama: which models each holds in memory, how much VRAM is free, what
happened. Before you send a job somewhere, ask pick_machine; for work of more than a minute take a lease with
lease_machine, renew it with renew_lease and end it with release_lease. Lists are short; each says how to get
more."""
PROMPT = types.Prompt(
    name="choose_machine",
    title="Choose a machine for this job",
    description="Find the machine that should run a job, and say why.",
    arguments=[
        types.PromptArgument(name="job", description="What needs to be done, in your words.", required=True),
        types.PromptArgument(name="model", description="The model, if you know it.", required=False),
    ],
)
_PROMPT_TEXT = """\
Choose a machine for this job: {job}

{model}Call pick_machine with what the job needs (model, free VRAM, context length, tags). If no machine
fits, read the reasons in `rejected`, then try cold=true or ask for less. Answer with the machine's name, its
URL, the model's name there, and one sentence that says why. If the job takes more than a minute, take a lease
with lease_machine instead."""


def make_server(ask: AskApi) -> "Server[Any]":
    """A server for one connection or request, whose tools ask the API with `ask`."""
    answers = _Answers(ask)
    return Server(
        "machines-server",
        version=_version(),
        title="machines-server",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=_input_schema,
        on_list_tools=answers.list_tools,
        on_call_tool=answers.call_tool,
        on_list_resources=answers.list_resources,
        on_list_resource_templates=answers.list_templates,
        on_read_resource=answers.read_resource,
        on_list_prompts=answers.list_prompts,
        on_get_prompt=answers.get_prompt,
    )


class _Answers:
    """The answers to each kind of request."""

    def __init__(self, ask: AskApi) -> None:
        self._ask = ask

    async def list_tools(self, _: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=_tools())

    async def call_tool(self, _: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            return _tool_result(await call_tool(self._ask, params.name, params.arguments))
        except Exception:
            log.exception("the tool %s failed", params.name)
            return _tool_result(
                Result(
                    500, {"error": "internal_error", "message": "The tool failed; its server's log says why."}
                )
            )

    async def list_resources(
        self, _: Any, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        begin = _cursor(params.cursor if params else None)
        content = await _asked(self._ask, "/api/machines")
        machines = orjson.loads(content)["machines"]
        end = begin + PAGE
        return types.ListResourcesResult(
            resources=[_resource(one) for one in machines[begin:end]],
            next_cursor=str(end) if end < len(machines) else None,
        )

    async def list_templates(self, _: Any, __: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            name="machine",
            title="Machine file",
            uri_template=f"{SCHEME}{{name}}",
            description="The file that declares a machine, in YAML.",
            mime_type=YAML,
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(
        self, _: Any, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        name = unquote(uri.removeprefix(SCHEME))
        if not uri.startswith(SCHEME) or not name or "/" in name or name in (".", ".."):
            _refuse(f"There is no resource {quoted(uri)}: use {SCHEME}NAME with the name of a machine.")
        text = (await _asked(self._ask, f"/api/machines/{quote(name, safe='')}/file")).decode()
        found = types.TextResourceContents(uri=params.uri, mime_type=YAML, text=text)
        return types.ReadResourceResult(contents=[found])

    async def list_prompts(self, _: Any, __: Any) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[PROMPT])

    async def get_prompt(self, _: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        if params.name != PROMPT.name:
            _refuse(f"There is no prompt {quoted(params.name)}; there is {PROMPT.name}.")
        return _prompt(params.arguments or {})


@cache
def _version() -> str:
    return version("machines-server")


def _input_schema(name: str) -> Mapping[str, Any] | None:
    """Without it the SDK would list all tools for each call."""
    return TOOLS[name].input_schema if name in TOOLS else None


@cache
def _tools() -> list[types.Tool]:
    return [_tool(tool) for tool in TOOLS.values()]


def _tool(tool: Tool) -> types.Tool:
    hints = types.ToolAnnotations(
        read_only_hint=tool.only_reads, destructive_hint=False, open_world_hint=False
    )
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=hints,
    )


def _tool_result(result: Result) -> types.CallToolResult:
    text = types.TextContent(type="text", text=orjson.dumps(result.content).decode())
    content = None if result.is_error else result.content
    return types.CallToolResult(content=[text], structured_content=content, is_error=result.is_error)


def _prompt(arguments: Mapping[str, str]) -> types.GetPromptResult:
    if not (job := arguments.get("job")):
        _refuse("The argument job is missing: say what is to be done.")
    model = f"The model is {arguments['model']}.\n" if arguments.get("model") else ""
    text = types.TextContent(type="text", text=_PROMPT_TEXT.format(job=job, model=model))
    return types.GetPromptResult(
        description=PROMPT.description, messages=[types.PromptMessage(role="user", content=text)]
    )


def _resource(machine: Mapping[str, Any]) -> types.Resource:
    name = machine["name"]
    return types.Resource(
        name=name,
        uri=f"{SCHEME}{quote(name)}",
        description=f"The file of {name}, whose role is {machine['role']}.",
        mime_type=YAML,
    )


async def _asked(ask: AskApi, path: str) -> bytes:
    """The content at a path of the API; raises MCPError with the API's message if there is none."""
    try:
        reply = await ask(ApiRequest("GET", path))
    except MachinesError as error:
        _refuse(str(error))
    if reply.status != 200:
        try:
            message = orjson.loads(reply.body)["message"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            message = f"The answer has status {reply.status}."
        _refuse(str(message))
    return reply.body


def _cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > 9:
        _refuse("The cursor is not one that a list returned.")
    return int(cursor)


def _refuse(message: str) -> Never:
    raise MCPError(types.INVALID_PARAMS, message)
