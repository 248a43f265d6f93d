"""The machines, as declared and with their live keys: GET /api/machines, /api/infrastructure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType, field, structs

from machines_server.contract.encoding import encode
from machines_server.contract.health import Poller
from machines_server.contract.host_services import MachineService, machine_services
from machines_server.contract.telemetry import Telemetry, telemetry
from machines_server.contract.units import Bytes, Moment, Tokens
from machines_server.core.machine import Machine, Problem
from machines_server.core.model_names import spelled_as
from machines_server.core.sample import LoadedModel, State
from machines_server.core.state import MachineState
from machines_server.core.text import printable
from machines_server.core.times import rfc3339

OllamaState = Literal["ok", "busy", "unreachable", "error", "disabled"]
AMachine = TypeVar("AMachine")
"""A machine in an answer: one of the classes below, or its JSON."""


class HeldModel(Struct, frozen=True, gc=False):
    """A model in the memory of a machine."""

    name: str
    """As the machine's file spells it if it lists the model, else as Ollama does."""
    model: str
    """As Ollama spells it."""
    digest: str | None
    """Null if Ollama did not report it."""
    size_bytes: Bytes | None
    """In RAM and on GPUs together; null if unknown."""
    size_vram_bytes: Bytes | None
    """On GPUs alone; null if unknown."""
    processor: str
    """Where it runs, as `ollama ps` prints it: `100% GPU`, `48%/52% CPU/GPU`, `100% CPU`, `unknown`."""
    context_length: Tokens | None
    """Null if unknown."""
    expires_at: Moment | None
    """When the model will leave memory unless it is used; null if never."""


class Ollama(Struct, frozen=True):
    """A machine's latest answer from Ollama."""

    state: OllamaState | None
    """`busy`: it accepted the connection but did not answer in time, as it does while it loads a model;
    `disabled`: the machine's file declares none. Null if nothing is known."""
    message: str | None
    """Why the state is not ok, or what is odd in a good answer; else null."""
    models: Sequence[HeldModel]
    """The models in memory; empty if it did not answer."""


class LiveKeys(Struct, frozen=True):
    """A machine's current state, which its file does not contain."""

    status: Literal["online", "degraded", "offline", "unknown"]
    status_reason: str | None
    """Why, in a sentence for people; null if all is well."""
    sampled_at: Moment | None
    """When `telemetry` was received; null if never."""
    last_seen: Moment | None
    """When any endpoint last answered; null if never."""
    telemetry: Telemetry
    loaded_models: Sequence[str]
    """The models that Ollama held in the latest cycle, as the machine's file spells them; sorted."""
    ollama: Ollama


class DeclaredMachine(Struct, frozen=True, kw_only=True):
    """A machine as its file declares it: all keys of the file, in order, and the file's name."""

    name: str
    role: str
    hardware: dict[str, Any]
    network: dict[str, Any]
    models: Sequence[str]
    services: Sequence[MachineService] | UnsetType = UNSET
    """Other services on its host; absent if its file lists none."""
    config_file: str = field(name="_config_file")
    """The name of its file."""


class MachineProblem(Struct, frozen=True):
    """An error or a warning about a machine file."""

    file: str
    message: str
    line: int | None
    """Counted from 1; null if the problem has no place in the file."""
    column: int | None
    """Counted from 1; null if the problem has no place in the file."""
    key: str | None
    """The path of the key, such as `network.port`; null if no key is to blame."""
    severity: Literal["error", "warning"]


class Machines(Struct, Generic[AMachine], frozen=True):
    """GET /api/machines: the machine files as declared."""

    machines: Sequence[AMachine]
    """Sorted by name; each with all keys of its file."""
    total: int
    config_dir: str
    """The folder of the machine files."""
    errors: Sequence[MachineProblem]


class FleetContent(Struct, Generic[AMachine], frozen=True):
    """The part of GET /api/infrastructure that its ETag depends on."""

    machines: Sequence[AMachine]
    """Sorted by name; each with all keys of its file, and its live keys."""
    total: int
    errors: Sequence[MachineProblem]
    poller: Poller


class Infrastructure(FleetContent[AMachine], Generic[AMachine], frozen=True):
    """GET /api/infrastructure: every machine with the keys of DeclaredMachine and of LiveKeys."""

    generated_at: Moment
    """When the rest of the answer last changed."""


def with_moment(content: bytes, generated_at: float) -> bytes:
    """The JSON of Infrastructure, made from that of its FleetContent and a time in epoch seconds."""
    return b'%s,"generated_at":"%s"}' % (content[:-1], rfc3339(generated_at).encode())


def declared_keys(machine: Machine) -> dict[str, object]:
    """The keys of DeclaredMachine and all others of the file, ready to be encoded."""
    keys: dict[str, object] = {key: Raw(json) for key, json in machine.declared_json.items()}
    keys["_config_file"] = machine.file
    return keys


def machine_json(live: MachineState) -> Raw:
    """A machine as declared, with its live keys: GET /api/machines/NAME.

    The entries of `services` have more keys than the file gives them.
    """
    keys = declared_keys(live.machine) | structs.asdict(live_keys(live))
    if live.services:
        keys["services"] = machine_services(live.machine.declared["services"], live.services)
    return Raw(encode(keys))


def live_keys(live: MachineState) -> LiveKeys:
    """A machine's current state."""
    return LiveKeys(
        status=live.verdict.status.value,
        status_reason=live.verdict.reason and printable(live.verdict.reason),
        sampled_at=live.sampled_at_text,
        last_seen=rfc3339(live.last_seen),
        telemetry=telemetry(live.host),
        loaded_models=live.loaded_models,
        ollama=_ollama(live),
    )


def problems(found: Sequence[Problem]) -> list[MachineProblem]:
    """The problems of machine files."""
    return [
        MachineProblem(
            problem.file, problem.message, problem.line, problem.column, problem.key, problem.severity
        )
        for problem in found
    ]


_STATE_NAMES: dict[State, OllamaState] = {
    State.OK: "ok",
    State.BUSY: "busy",
    State.UNREACHABLE: "unreachable",
    State.ERROR: "error",
}


def _ollama(live: MachineState) -> Ollama:
    message = live.ollama_reason
    if live.machine.model_server is None:
        return Ollama("disabled", None, ())
    if message and live.ollama_hint:
        message = f"{message}: {live.ollama_hint}"
    return Ollama(
        state=_STATE_NAMES[live.ollama] if live.ollama else None,
        message=message and printable(message),
        models=[_held_model(model, live) for model in live.models],
    )


def _held_model(model: LoadedModel, live: MachineState) -> HeldModel:
    return HeldModel(
        name=spelled_as(model.model, live.machine.models),
        model=model.model,
        digest=model.digest,
        size_bytes=model.size_bytes,
        size_vram_bytes=model.size_vram_bytes,
        processor=model.processor,
        context_length=model.context_length,
        expires_at=_by_our_clock(model.expires_at, live.clock_ahead_s),
    )


def _by_our_clock(moment: str | None, ahead_s: float) -> str | None:
    """Convert a time (RFC 3339) from a host's clock, which is `ahead_s` ahead, to ours; in whole seconds."""
    if moment is None or not ahead_s:
        return moment
    try:
        ours = datetime.fromisoformat(moment) - timedelta(seconds=round(ahead_s))
    except OverflowError:  # a year before 1 or after 9999
        return moment
    return ours.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
