"""What the server answers about its machines, now and in the past, and about itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from machines_client.decoding import Answer, keyed


@dataclass(frozen=True, kw_only=True)
class DeclaredMachine(Answer):
    """A machine as its file declares it; `body` has all keys of the file."""

    name: str
    role: str
    models: tuple[Any, ...] = field(repr=False)
    hardware: Mapping[str, Any] = field(repr=False)
    network: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MachineState(DeclaredMachine):
    """A machine as declared, and its current state.

    `sampled_at` is when `telemetry` was received, `last_seen` when the machine last answered (RFC 3339, None
    if never). `loaded_models` are in memory. Sizes in `telemetry` are in GiB, and null is unknown.
    """

    status: str
    status_reason: str | None
    sampled_at: str | None
    last_seen: str | None = field(repr=False)
    loaded_models: tuple[str, ...]
    telemetry: Mapping[str, Any] = field(repr=False)
    ollama: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error or a warning about a machine file; `line` and `column` count from 1."""

    file: str
    message: str
    severity: str
    line: int | None = None
    column: int | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Machines(Answer):
    """The machine files as declared, and their problems."""

    machines: tuple[DeclaredMachine, ...]
    errors: tuple[Problem, ...]
    config_dir: str


@dataclass(frozen=True, kw_only=True)
class Poller:
    """Whether the machines are polled.

    `cycle_s` is how many seconds the latest cycle took; it and `last_cycle_at` are None before the first.
    """

    state: str
    interval_s: float
    message: str | None
    last_cycle_at: str | None = None
    cycle_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Infrastructure(Answer):
    """Every machine with its current state; `generated_at` is when the content last changed."""

    machines: tuple[MachineState, ...]
    errors: tuple[Problem, ...]
    poller: Poller = field(repr=False)
    generated_at: str


@dataclass(frozen=True, kw_only=True)
class LastLoaded:
    """Where and when a model was last seen in memory."""

    machine: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the fleet: the machines that declare it, have it on disk, and hold it in memory now.

    `residency_s` is how many seconds it was in memory within the range, totalled over all machines.
    """

    model: str
    declared: tuple[str, ...]
    on_disk: tuple[str, ...]
    loaded: tuple[str, ...]
    last_loaded: LastLoaded | None
    residency_s: float


@dataclass(frozen=True, kw_only=True)
class Models(Answer):
    """Every model that is declared, on a disk, or was ever loaded."""

    models: tuple[Model, ...]
    from_: str = keyed("from")
    to: str


class Point(NamedTuple):
    """The start of a bucket in epoch seconds; average, minimum, maximum and number of its values."""

    at: int
    avg: float
    min: float
    max: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Series:
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
class MachineHistory:
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
    """Something that happened to a machine; `body` has the keys that its `type` adds."""

    id: int
    at: str
    machine: str
    type: str


@dataclass(frozen=True, kw_only=True)
class Events(Answer):
    """One page of events.

    If it is `truncated`, the same question goes on with `next` as `before`, or as `after` if that was given.
    """

    events: tuple[Event, ...]
    next: Any = None
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class StatusSeconds:
    """How many seconds a machine had each status; it is unknown while no process polled."""

    online: float
    degraded: float
    offline: float
    unknown: float


@dataclass(frozen=True, kw_only=True)
class Availability(Answer):
    """How long a machine had each status.

    `ratio` is the fraction of the known time in which it answered, None if no time is known. `outages` is how
    often it was offline, and `longest_outage_s` the seconds of the longest time.
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


@dataclass(frozen=True, kw_only=True)
class System(Answer):
    """The server's own machine; `body` has the figures of `telemetry`. Sizes are in GiB, None is unknown."""

    hostname: str
    timestamp: str
    cpu_percent: float | None
    ram_available_gb: float | None
    disk_available_gb: float | None


@dataclass(frozen=True, kw_only=True)
class Store:
    """Whether the database can be read and written; `message` says why not."""

    state: str
    message: str | None


@dataclass(frozen=True, kw_only=True)
class Health(Answer):
    """The health of the server: `status` is `ok` or `not_ready`, and `message` says why it is not ready."""

    status: str
    version: str
    poller: Poller
    store: Store
    warnings: tuple[str, ...]
    message: str | None = None
