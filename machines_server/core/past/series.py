"""Measurements of machines over a range of time."""

from collections.abc import Sequence
from dataclasses import dataclass

from machines_server.core.past.metrics import Metric
from machines_server.core.past.rollup import Fold


@dataclass(frozen=True, slots=True)
class KnownGpu:
    """A GPU that a machine has or had, as last seen; `uuid` is unique within the machine, `index` is not."""

    index: int
    uuid: str
    model: str | None


Points = Sequence[tuple[int, Fold]]
"""The start of each bucket that has values, in epoch seconds, and its fold."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of a machine or of one of its GPUs."""

    metric: Metric
    card: KnownGpu | None
    points: Points


@dataclass(frozen=True, slots=True)
class MachineSeries:
    """Some series of one machine."""

    machine: str
    series: Sequence[Series]


@dataclass(frozen=True, slots=True)
class SeriesRange:
    """Series of one or several machines, in steps of `step_s` from `from_s` up to `to_s` (epoch seconds)."""

    from_s: int
    to_s: int
    step_s: int
    tier: str
    machines: Sequence[MachineSeries]
