"""What tools for agents return where the API's own answer would be too long."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, field
from pydantic import BaseModel, ConfigDict

from machines_server.contract.units import Count, Gib


class ToolDescription(Struct, frozen=True):
    """A tool for agents."""

    name: str
    description: str
    """What it is for."""
    input_schema: dict[str, Any] = field(name="inputSchema")
    """The JSON Schema of its arguments."""


class Tools(Struct, frozen=True):
    """GET /mcp/tools."""

    tools: Sequence[ToolDescription]


class ToolCall(BaseModel):
    """The body of POST /mcp/call."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tool: str
    """The name of a tool."""
    args: dict[str, Any] | None = None
    """Its arguments, as its `inputSchema` describes them."""


class ToolResult(Struct, frozen=True):
    """POST /mcp/call."""

    result: dict[str, Any]
    """What the tool returns: the API's answer, with shorter lists."""


class BriefMachine(Struct, frozen=True):
    """A machine in brief."""

    name: str
    role: str
    status: Literal["online", "degraded", "offline", "unknown"]
    status_reason: str | None
    """Why, in a sentence for people; null if all is well."""
    free_vram_gb: Gib | None
    """On the GPU that has the most free VRAM; null without a GPU, or if unknown."""
    loaded_models: Sequence[str]
    """The models in its memory."""
    tags: Sequence[str]
    """The `tags` of its file."""


class BriefMachines(Struct, frozen=True):
    """All machines in brief."""

    machines: Sequence[BriefMachine]
    """Sorted by name."""
    total: Count


def brief_machine(machine: Mapping[str, Any]) -> dict[str, object]:
    """The keys of a BriefMachine, from those of a LiveMachine."""
    gpus = machine["telemetry"].get("gpu", ())
    free = [gpu["vram_free_gb"] for gpu in gpus if gpu["vram_free_gb"] is not None]
    tags = machine.get("tags")
    kept = ("name", "role", "status", "status_reason")
    return {
        **{key: machine[key] for key in kept},
        "free_vram_gb": max(free, default=None),
        "loaded_models": machine["loaded_models"],
        "tags": [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
    }
