"""The values that a store takes and returns, besides those of `core`; they are the same for every store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from machines_server.core.host_services import ServiceResult
from machines_server.core.machine import Registry
from machines_server.core.past.metrics import Metric
from machines_server.core.past.rollup import HOUR, MINUTE, RAW, TEN_MINUTES
from machines_server.core.past.series import KnownGpu
from machines_server.core.routing.leases import Lease
from machines_server.core.routing.loading import LoadTime
from machines_server.core.sample import Cycle, Library, PollResult, Sample, UnchangedLibrary

Update = Registry | PollResult | Sample | ServiceResult | Cycle | Library | UnchangedLibrary
"""Something that the poller learned."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each tier is kept, in seconds."""

    raw_s: float
    minute_s: float
    hour_s: float

    @property
    def by_tier(self) -> Mapping[str, float]:
        """How long each tier is kept, finest tier first."""
        return {RAW: self.raw_s, MINUTE: self.minute_s, TEN_MINUTES: self.minute_s, HOUR: self.hour_s}


@dataclass(frozen=True, slots=True)
class KnownMachine:
    """A machine that is or was declared, and its GPUs by index; two may have had the same index."""

    name: str
    gpus: Sequence[KnownGpu]


class SeriesKey(NamedTuple):
    """A metric of a machine or, with `gpu` (a UUID), of one of its GPUs."""

    machine: str
    metric: Metric
    gpu: str | None = None


class StatusChange(NamedTuple):
    """A machine has that status from `at` on; `machine_removed` counts as a status."""

    machine: str
    at: float
    status: str


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a machine; events written later have higher ids."""

    id: int
    at: float
    machine: str
    type: str
    detail: Mapping[str, Any]


class EventsPage(NamedTuple):
    """Some events, whether more follow in the order in which they are read, and the highest id of all."""

    events: Sequence[StoredEvent]
    is_truncated: bool
    newest: int | None


@dataclass(frozen=True, slots=True)
class Residency:
    """A model on a machine: when it was last seen in memory, and for how long it was there in a range."""

    machine: str
    model: str
    last_seen: float
    resident_s: float


@dataclass(frozen=True, slots=True)
class Leader:
    """The process that polls, since when, and its faults by part: `poll`, `store`, `clock`, `files`,
    `network`, `history`.

    The fault `lock` means that the process does not poll, yet keeps others from polling. `folder` is the real
    path of its machine files, None if unknown. `pid` is 0 if unknown.
    """

    pid: int
    since: float
    faults: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseSnapshot:
    """The active leases, and how long loads took, oldest first.

    `released` are leases that ended before a sample could show their models, a few seconds ago at most.
    Snapshots with equal versions that one object returned have the same content.
    """

    leases: Sequence[Lease] = ()
    released: Sequence[Lease] = ()
    load_times: Sequence[LoadTime] = ()
    version: int = 0


class StoreSizes(NamedTuple):
    """Bytes of each database by name, and of its log of writes; missing ones are absent."""

    databases: Mapping[str, int]
    logs: Mapping[str, int]


class Requested(NamedTuple):
    """Requests to the poller: the keys of models to look for, and the names of machines to poll soon."""

    models: frozenset[str] = frozenset()
    machines: tuple[str, ...] = ()


class LeaseRequest(NamedTuple):
    """A request for a lease: its holder, its duration and its client's address.

    A request with the `key` of an earlier one gets that one's lease if their digests are equal.
    """

    holder: str
    ttl_s: float
    address: str = ""
    key: str | None = None
    digest: bytes | None = None
    is_exclusive: bool = False
    agent: str | None = None
    """The agent that signed the request."""
