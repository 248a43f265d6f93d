"""Events of machines: GET /api/events."""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from machines_server.contract.units import Gib, Moment, Port, Seconds, Tokens
from machines_server.core.times import rfc3339

AnEvent = TypeVar("AnEvent")
"""An event in an answer: one of the classes below, or its keys."""


class EventBase(Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event has; `type` says which class it is."""

    id: int
    """Events that are written later have higher ids; the parameters `after` and `before` take one."""
    at: Moment
    machine: str


class StatusEvent(EventBase, frozen=True, kw_only=True):
    """A machine changed to the status in `type`."""

    before: str | None
    """The status until then; null if the machine was never seen before."""
    reason: str | None
    """Why, in a sentence for people; null if all is well."""


class Online(StatusEvent, frozen=True, tag="online"):
    """A machine is online."""


class Degraded(StatusEvent, frozen=True, tag="degraded"):
    """A machine's Ollama answers, but its sidecar does not."""


class Offline(StatusEvent, frozen=True, tag="offline"):
    """No endpoint of a machine answers."""


class Unknown(StatusEvent, frozen=True, tag="unknown"):
    """The server could not poll a machine."""


class ModelEvent(EventBase, frozen=True, kw_only=True):
    """A model and the memory that it takes."""

    model: str
    """As Ollama spells it."""
    digest: str | None
    """Null if Ollama did not report it."""
    size_gb: Gib | None
    """In RAM and on GPUs together; null if unknown."""
    size_vram_gb: Gib | None
    """On GPUs alone; null if unknown."""
    context_length: Tokens | None
    """Null if unknown."""
    processor: str
    """Where it runs, as `ollama ps` prints it: `100% GPU`, `48%/52% CPU/GPU`, `100% CPU`, `unknown`."""


class ModelLoaded(ModelEvent, frozen=True, kw_only=True, tag="model_loaded"):
    """A machine loaded a model into memory."""


class ModelUnloaded(ModelEvent, frozen=True, kw_only=True, tag="model_unloaded"):
    """A model left a machine's memory."""

    resident_s: Seconds
    """How long it has been seen in memory, without a gap in polling."""


class MachineAdded(EventBase, frozen=True, kw_only=True, tag="machine_added"):
    """A machine file was added."""

    file: str


class MachineChanged(EventBase, frozen=True, kw_only=True, tag="machine_changed"):
    """A machine file was changed."""

    file: str
    keys: Sequence[str]
    """The top-level keys that were added, changed or removed, sorted."""


class MachineRemoved(EventBase, frozen=True, kw_only=True, tag="machine_removed"):
    """A machine file was removed."""


class HostRebooted(EventBase, frozen=True, kw_only=True, tag="host_rebooted"):
    """A host was restarted."""

    uptime_s: Seconds
    uptime_before_s: Seconds


class HostChanged(EventBase, frozen=True, kw_only=True, tag="host_changed"):
    """Another host answers under a machine's name."""

    reason: str
    hostname_before: str | None
    """The previous host's own name; null if unknown."""
    hostname: str | None
    """The host's own name; null if unknown."""
    gpu_before: Sequence[str]
    """The UUIDs of its GPUs before."""
    gpu: Sequence[str]
    """The UUIDs of its GPUs."""


class ServiceEvent(EventBase, frozen=True, kw_only=True):
    """A service on a machine's host that is polled with it."""

    service: str
    """Its name in the machine's file."""
    port: Port
    path: str
    reason: str | None
    """Why it does not answer; null if it does."""


class ServiceUp(ServiceEvent, frozen=True, kw_only=True, tag="service_up"):
    """A service answers, with an HTTP status below 500."""


class ServiceDown(ServiceEvent, frozen=True, kw_only=True, tag="service_down"):
    """A service does not answer, or answers with an HTTP status of 500 or above."""


Event = (
    Online
    | Degraded
    | Offline
    | Unknown
    | ModelLoaded
    | ModelUnloaded
    | MachineAdded
    | MachineChanged
    | MachineRemoved
    | HostRebooted
    | HostChanged
    | ServiceUp
    | ServiceDown
)


class Events(Struct, Generic[AnEvent], frozen=True):
    """GET /api/events: a page of at most `limit` events, newest first.

    The newest is the one with the latest `at` and, of several with that time, the highest `id`. Without
    `after`, a page has the newest events or, with `before`, those that follow that event in this order. With
    `after`, it has the first ones that were written after that event, whatever their times, so that a reader
    who passes on the highest `id` so far misses none. Pages never repeat or skip an event, even if several
    have the same time or new ones are written meanwhile.
    """

    events: Sequence[AnEvent]
    next: int | None
    """What to pass as `before` for the following page or, if `after` was given, as `after`; null if there
    are no more events."""
    truncated: bool
    """Whether there are more events: `next` is not null."""
    newest: int | None
    """The highest id of all events, whatever the query; null if there are none. If it is lower than
    `after`, the database was replaced, and a reader must begin anew."""


def event(number: int, at: float, machine: str, kind: str, detail: Mapping[str, object]) -> dict[str, object]:
    """The keys of an Event; `detail` is as stored, perhaps by an older version."""
    return {"id": number, "at": rfc3339(at), "machine": machine, "type": kind, **detail}
