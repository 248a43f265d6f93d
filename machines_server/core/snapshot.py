"""The current data of a store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from machines_server.core.host_services import PolledService
from machines_server.core.sample import Cycle, Library, ModelSize, RuntimeState, State


class Latest(NamedTuple):
    """The latest poll of one endpoint; `answer` and `clock_ahead_s` date from `answered_at`."""

    url: str
    state: State
    reason: str | None
    polled_at: float
    answered_at: float | None
    answer: RuntimeState | None
    clock_ahead_s: float | None = None
    up_since: float | None = None
    """The time since which every poll was answered or found it busy; None if unknown."""
    hint: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The latest poll of every endpoint, the last finished cycle, models on disk, and sizes of models.

    Mappings are by the case-folded name of the machine, and `latest` then by kind of endpoint. `held_since`
    has the time (epoch seconds) at which each loaded model was first listed, and `absent_at`, where that is
    known, the last time before that at which it was not. `vram_users` are the machines
    whose latest load took GPU memory. `services` are by name, those of OWN_HOST among them.
    """

    latest: Mapping[str, Mapping[str, Latest]] = field(default_factory=dict)
    cycle: Cycle | None = None
    libraries: Mapping[str, Library] = field(default_factory=dict)
    sizes: tuple[ModelSize, ...] = ()
    held_since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    absent_at: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    vram_users: frozenset[str] = frozenset()
    services: Mapping[str, Mapping[str, PolledService]] = field(default_factory=dict)
