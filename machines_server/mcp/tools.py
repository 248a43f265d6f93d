"""The tools for agents, each a request to the API in a form that is short enough to read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from machines_server.contract.tools import brief_machine
from machines_server.mcp.schemas import Operation, Schema, operations, reference, self_contained

MAX_ENTRIES = 1000
"""The most entries of a list in one result."""
_REJECTED = 5
"""How many entries of `rejected` are shown, the nearest misses."""


@dataclass(frozen=True)
class Tool:
    """A tool; `lists` names the lists of its answer that it shortens, of which `limit` entries are shown."""

    name: str
    title: str
    description: str
    operation_id: str
    lists: tuple[str, ...] = ()
    limit: int = 20
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Default values of arguments, where they differ from the API's own."""
    hidden: frozenset[str] = frozenset()
    """The API's parameters that the tool does not take."""
    answer: str = ""
    """The class of its result, if that is not the API's answer."""
    shape: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Turns the API's answer into the result."""

    @property
    def operation(self) -> Operation:
        """The operation of the API that it calls."""
        return operations()[self.operation_id]

    @property
    def only_reads(self) -> bool:
        """Whether it changes nothing."""
        return self.operation.method == "GET"

    @cached_property
    def input_schema(self) -> Schema:
        """The JSON Schema of its arguments."""
        arguments = {
            name: schema | ({"default": self.defaults[name]} if name in self.defaults else {})
            for name, schema in self.operation.arguments.items()
            if name not in self.hidden
        }
        if self.lists:
            arguments["limit"] = {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_ENTRIES,
                "default": self.limit,
                "description": f"The most entries of {' and '.join(self.lists)} to return.",
            }
            arguments["offset"] = {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "How many entries to skip at the beginning.",
            }
        return {
            "type": "object",
            "properties": arguments,
            "required": list(self.operation.required),
            "additionalProperties": False,
        }

    @cached_property
    def output_schema(self) -> Schema:
        """The JSON Schema of its result."""
        answer = reference(self.answer) if self.answer else self.operation.answer
        if not self.lists:
            return self_contained({"allOf": [answer]})
        more = {
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 1},
            "description": "How many entries of each list follow; absent if none do.",
        }
        note = {"type": "string", "description": "How to get them."}
        return self_contained({"allOf": [answer], "properties": {"more": more, "note": note}})


def _in_short(answer: dict[str, Any]) -> dict[str, Any]:
    return {"machines": [brief_machine(one) for one in answer["machines"]], "total": answer["total"]}


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "list_machines",
            "List machines",
            "List all machines in brief: name, role, status, free VRAM, models in memory, tags. Use it to"
            " see what there is, and which machines are online or offline. To choose a machine for a job,"
            " use pick_machine.",
            "get_infrastructure",
            lists=("machines",),
            answer="BriefMachines",
            shape=_in_short,
        ),
        Tool(
            "get_infrastructure",
            "Get infrastructure",
            "Get every machine in full: hardware and all other keys of its file, telemetry (CPU, RAM, "
            "disk, each GPU), models in memory, and problems of machine files. Long: prefer list_machines"
            " or get_machine.",
            "get_infrastructure",
            lists=("machines", "errors"),
            limit=5,
        ),
        Tool(
            "get_machine",
            "Get one machine",
            "Get one machine in full, by its name: status and why, hardware, temperature, power and use "
            "of each GPU, RAM, disk, and the models that its Ollama holds in memory.",
            "get_machine",
        ),
        Tool(
            "pick_machine",
            "Pick a machine",
            "Choose the best machine for a job: where to send a request for a model. Prefers a machine "
            "that has the model in memory (warm); cold=true also accepts one that must load it. Can "
            "demand free VRAM or RAM, a context length, role, tags. Returns the URL of its Ollama, other "
            "candidates, and why the others are not fit. Nothing is reserved; for longer work use "
            "lease_machine.",
            "pick_machine",
            lists=("candidates", "rejected"),
            limit=_REJECTED,
            hidden=frozenset({"explain"}),
        ),
        Tool(
            "lease_machine",
            "Lease a machine",
            "Choose a machine as pick_machine does and reserve its memory for ttl_s seconds, so that "
            "others are sent elsewhere. Renew the lease with renew_lease before it expires, and end it "
            "with release_lease.",
            "lease_machine",
            lists=("candidates", "rejected"),
            limit=_REJECTED,
        ),
        Tool(
            "renew_lease",
            "Renew a lease",
            "Restart the time of a lease that lease_machine returned, to keep its reservation.",
            "renew_lease",
        ),
        Tool(
            "release_lease",
            "Release a lease",
            "End a lease that lease_machine returned, when its work is done.",
            "release_lease",
        ),
        Tool(
            "machine_history",
            "Get the history of a machine",
            "Get metrics of one machine over time (CPU, RAM, VRAM, GPU utilisation, temperature, power, "
            "...): by default the last day in steps of an hour. Use it for trends: was it busy last "
            "night, how hot was a GPU yesterday. For a longer range take a longer step.",
            "get_machine_history",
            defaults={"step": 3600},
            hidden=frozenset({"format"}),
        ),
        Tool(
            "recent_events",
            "List recent events",
            "List what happened, newest first: machines that went offline or came back, models that were "
            "loaded or unloaded, hosts that rebooted, files that changed. Use it to find out when and why"
            " something changed. For older events pass `next` as `before`.",
            "list_events",
            defaults={"limit": 20},
            hidden=frozenset({"after"}),
        ),
        Tool(
            "list_models",
            "List models",
            "List every model: which machines have it in memory now, which on disk, which files declare "
            "it, and where it was last loaded. Use it to find out which models can be used, and where.",
            "list_models",
            lists=("models",),
        ),
        Tool(
            "get_system_resources",
            "Get the resources of the server's host",
            "Get CPU, RAM, disk and GPUs of the host that this server itself runs on, read now. For other"
            " machines use get_machine.",
            "get_system",
        ),
    )
}
"""The tools by name."""
