"""What the server answers about its machines and about itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from machines_client.decoding import Answer, keyed


@dataclass(frozen=True, kw_only=True)
class DeclaredMachine(Answer):
    """A machine as its file declares it; every other key of the file is an attribute, too.

    A key that is not there is an AttributeError: `getattr(machine, "tags", [])`. Keys that are not
    Python identifiers are in `body`.

    >>> client.machine("workstation")._config_file
    'workstation.yaml'
    """

    name: str
    role: str
    models: tuple[Any, ...] = field(repr=False)
    hardware: Mapping[str, Any] = field(repr=False)
    network: Mapping[str, Any] = field(repr=False)

    def __getattr__(self, key: str) -> Any:
        """A key of the file besides those above."""
        try:
            # Not self.body: a copy that is being made has none yet.
            return self.__dict__["body"][key]
        except KeyError:
            raise AttributeError(f"the file of this machine has no key {key}", name=key, obj=self) from None


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
class Problem(Answer):
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
    total: int = 0
    errors: tuple[Problem, ...]
    config_dir: str


@dataclass(frozen=True, kw_only=True)
class Poller(Answer):
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
    total: int = 0
    errors: tuple[Problem, ...]
    poller: Poller = field(repr=False)
    generated_at: str


@dataclass(frozen=True, kw_only=True)
class HostServices(Answer):
    """The services of all hosts, by name: `status` is active, inactive or unknown, `machine` is where it is.

    A name that another host has, too, is `NAME@MACHINE`; None as machine is the server's own host.
    `checked_at` is when they were last polled (RFC 3339), None if never.
    """

    services: Mapping[str, Mapping[str, Any]]
    checked_at: str | None


@dataclass(frozen=True, kw_only=True)
class LastLoaded(Answer):
    """Where and when a model was last seen in memory."""

    machine: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Model(Answer):
    """A model of the fleet: the machines that declare it, have it on disk, and hold it in memory now.

    `residency_s` is how many seconds it was in memory within the range, totalled over all machines, and
    `resident_on` which machines had it in memory then.
    """

    model: str
    declared: tuple[str, ...]
    on_disk: tuple[str, ...]
    loaded: tuple[str, ...]
    last_loaded: LastLoaded | None
    residency_s: float
    resident_on: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Models(Answer):
    """Every model that is declared, on a disk, or was ever loaded."""

    models: tuple[Model, ...]
    from_: str = keyed("from")
    to: str


@dataclass(frozen=True, kw_only=True)
class System(Answer):
    """The server's own machine, measured at `timestamp`. Sizes are in GiB, None is unknown."""

    hostname: str
    timestamp: str
    cpu_percent: float | None
    ram_used_gb: float | None = field(default=None, repr=False)
    ram_total_gb: float | None = field(default=None, repr=False)
    ram_available_gb: float | None
    disk_used_gb: float | None = field(default=None, repr=False)
    disk_total_gb: float | None = field(default=None, repr=False)
    disk_available_gb: float | None
    uptime_s: float | None = field(default=None, repr=False)
    load_avg: tuple[float | None, ...] = field(default=(), repr=False)
    gpu: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    gpu_unreadable: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Store(Answer):
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
    error: str | None = field(default=None, repr=False)
    service: str = field(default="", repr=False)
