"""What the poller counts: cycles, polls and their failures, and how far its writer is behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CYCLE_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets into which cycles are counted by their duration."""


@dataclass(frozen=True, slots=True)
class HistoryBacklog:
    """Samples for an engine elsewhere: those that wait and, since the sink was opened, those that were sent.

    `dropped` counts those that were not, by reason.
    """

    waiting: int
    sent: int
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Items that wait to be written, and for how many seconds the oldest of the last batch had waited.

    `dropped` counts the items that were dropped since there were too many, since the sink was opened.
    """

    waiting: int = 0
    lag_s: float = 0.0
    dropped: int = 0
    history: HistoryBacklog | None = None


@dataclass(frozen=True, slots=True)
class PollerCounts:
    """The counts since the data folder was created, at `at` (epoch seconds)."""

    at: float = 0.0
    cycles_s: float = 0.0
    """The durations of all cycles together, in seconds."""
    cycles: Sequence[int] = (0,) * (len(CYCLE_BOUNDS_S) + 1)
    """How many cycles took up to each of CYCLE_BOUNDS_S, but more than the previous one; the last: longer."""
    polls: Mapping[str, int] = field(default_factory=dict)
    """By kind of endpoint."""
    failures: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By kind of endpoint and code of the reason."""
    backlog: Backlog = Backlog()
    shards: int | None = None
    """How many shards of the machines it polls; None if it polls them all."""
