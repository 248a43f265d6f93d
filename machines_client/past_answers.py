"""What the server answers about the past of its machines."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from machines_client.decoding import Answer, keyed


def _detail() -> Any:
    """A key that only some types of events have."""
    return field(default=None, repr=False)


class Point(NamedTuple):
    """The start of a bucket in epoch seconds; average, minimum, maximum and number of its values."""

    at: int
    avg: float
    min: float
    max: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Series(Answer):
    """One metric of a machine, or of one of its GPUs. A bucket without values has no point."""

    metric: str
    unit: str
    points: tuple[Point, ...] = field(repr=False)
    gpu: int | None = None
    uuid: str | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class History(Answer):
    """Series of one machine in steps of `step_s` seconds."""

    machine: str
    from_: str = keyed("from")
    to: str
    step_s: int
    tier: str | None = None
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True)
class MachineHistory(Answer):
    """The series of one of several machines."""

    machine: str
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True)
class Histories(Answer):
    """Series of several machines in steps of `step_s` seconds."""

    from_: str = keyed("from")
    to: str
    step_s: int
    tier: str | None = None
    machines: tuple[MachineHistory, ...]


@dataclass(frozen=True, kw_only=True)
class Event(Answer):
    """Something that happened to a machine; attributes that its `type` lacks are None.

    `reason` says why a status changed from `before`, why another host is there, or why a `service` at that
    `port` and `path` does not answer. A model has `model` to
    `processor`, and `resident_s` after it left memory. `keys` of a `file` were changed. Sizes are in GiB.

    >>> client.events(machine="workstation", type="online").events[0].before is None
    True
    """

    id: int
    at: str
    machine: str
    type: str
    before: str | None = _detail()
    reason: str | None = _detail()
    model: str | None = _detail()
    digest: str | None = _detail()
    size_gb: float | None = _detail()
    size_vram_gb: float | None = _detail()
    context_length: int | None = _detail()
    processor: str | None = _detail()
    resident_s: float | None = _detail()
    file: str | None = _detail()
    keys: tuple[str, ...] | None = _detail()
    uptime_s: float | None = _detail()
    uptime_before_s: float | None = _detail()
    hostname: str | None = _detail()
    hostname_before: str | None = _detail()
    gpu: tuple[str, ...] | None = _detail()
    gpu_before: tuple[str, ...] | None = _detail()
    service: str | None = _detail()
    port: int | None = _detail()
    path: str | None = _detail()


@dataclass(frozen=True, kw_only=True)
class Events(Answer):
    """One page of events.

    If it is `truncated`, repeat the question with `next` as `before`, or as `after` if that was given.
    `newest` is the highest id of all events; if it is lower than `after`, the server has a new database.
    """

    events: tuple[Event, ...]
    next: Any = None
    truncated: bool = False
    newest: int | None = None


@dataclass(frozen=True, kw_only=True)
class StatusSeconds(Answer):
    """How many seconds a machine had each status; it is unknown while no process polled."""

    online: float
    degraded: float
    offline: float
    unknown: float


@dataclass(frozen=True, kw_only=True)
class Availability(Answer):
    """How long a machine had each status.

    `ratio` is the fraction of the known time in which it answered, None if no time is known. `outages` is how
    often it was offline, and `longest_outage_s` how many seconds the longest outage lasted.
    """

    machine: str
    seconds: StatusSeconds
    ratio: float | None
    outages: int
    longest_outage_s: float
    from_: str | None = keyed("from", None)
    to: str | None = None


@dataclass(frozen=True, kw_only=True)
class FleetAvailability(Answer):
    """How long each machine had each status."""

    machines: tuple[Availability, ...]
    from_: str = keyed("from")
    to: str
