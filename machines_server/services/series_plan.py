"""The series that a question about the past asks for, and the steps in which they are read."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import NamedTuple

from machines_server.contract.history_queries import SeriesQuery
from machines_server.core.past.metrics import Metric
from machines_server.core.past.rollup import (
    HOUR,
    MAX_AUTO_POINTS,
    MAX_POINTS,
    MAX_POINTS_IN_ALL,
    TIER_STEPS_S,
    auto_step_s,
    coarsest_tier,
)
from machines_server.core.past.series import KnownGpu, MachineSeries, Points, Series, SeriesRange
from machines_server.core.text import clip, quoted
from machines_server.errors import BadParameterError
from machines_server.store.values import KnownMachine, SeriesKey


class _Wanted(NamedTuple):
    """One series: a metric of a machine or, with `gpu`, of one of its GPUs."""

    machine: KnownMachine
    metric: Metric
    gpu: KnownGpu | None

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.machine.name, self.metric, self.gpu.uuid if self.gpu else None)


class SeriesPlan:
    """The series to read, and the steps in which to read them; raises BadParameterError.

    The limits on points hold for all machines together.
    """

    def __init__(
        self, query: SeriesQuery, machines: Sequence[KnownMachine], now: float, kept_s: Mapping[str, float]
    ) -> None:
        """`kept_s` is how long each tier is kept, finest tier first; `now` is in epoch seconds."""
        metrics, (from_at, to_at) = query.metrics(), query.range(now)
        self._machines = machines
        self._wanted = list(_wanted(metrics, machines, query.gpus()))
        max_points = min(MAX_POINTS, MAX_POINTS_IN_ALL // max(len(self._wanted), 1))
        if max_points < 2:
            why = f"gives {len(self._wanted)} series: ask for fewer metrics or machines, or for some GPUs"
            raise BadParameterError("metric", f"{why} with gpu")
        finest_s = _finest_s(from_at, now, kept_s)
        self.step_s = step_s = _step_s(query, to_at - from_at, finest_s, max_points)
        self.from_s, self.to_s = int(from_at // step_s * step_s), int(-(-to_at // step_s) * step_s)
        if (points := (self.to_s - self.from_s) // step_s) > max_points:
            # One point fewer, because the ends of the span may cut two buckets.
            least_s = ceil((to_at - from_at) / (max_points - 1) / finest_s) * finest_s
            each = f" in each of {len(self._wanted)} series" if max_points < MAX_POINTS else ""
            why = f"gives {points} points{each}, more than {max_points}"
            raise BadParameterError("step", f"{why}: use {least_s} or more, or fewer metrics")

    @property
    def keys(self) -> list[SeriesKey]:
        """The series to read."""
        return [one.key for one in self._wanted]

    def answer(self, found: Sequence[Points]) -> SeriesRange:
        """The series of each machine, from the points of each key."""
        by_machine: dict[str, list[Series]] = {machine.name: [] for machine in self._machines}
        for (machine, metric, gpu), points in zip(self._wanted, found, strict=True):
            by_machine[machine.name].append(Series(metric, gpu, points))
        machines = [MachineSeries(name, series) for name, series in by_machine.items()]
        return SeriesRange(self.from_s, self.to_s, self.step_s, coarsest_tier(self.step_s), machines)


def _finest_s(from_at: float, now: float, kept_s: Mapping[str, float]) -> int:
    """The finest step, in seconds, that is kept as far back as `from_at`."""
    kept = (tier for tier, tier_s in kept_s.items() if now - from_at <= tier_s)
    return TIER_STEPS_S.get(next(kept, HOUR), 1)


def _step_s(query: SeriesQuery, span_s: float, finest_s: int, max_points: int) -> int:
    step_s = query.step_s()
    if step_s is None:
        return auto_step_s(span_s, finest_s, min(max_points, MAX_AUTO_POINTS))
    if step_s % finest_s:
        why = f"nothing finer than {finest_s} s is kept that far back: use a multiple of {finest_s}, or auto"
        raise BadParameterError("step", f"is {step_s}, but {why}")
    return step_s


def _wanted(
    metrics: Sequence[Metric], machines: Sequence[KnownMachine], selected: frozenset[str] | None
) -> Iterator[_Wanted]:
    """Every series; `selected` has indices or UUIDs of GPUs, None selects all of them."""
    _check_gpus(machines, selected or frozenset())
    for machine in machines:
        for metric in metrics:
            if not metric.is_gpu:
                yield _Wanted(machine, metric, None)
                continue
            for card in machine.gpus:
                if selected is None or str(card.index) in selected or card.uuid in selected:
                    yield _Wanted(machine, metric, card)


def _check_gpus(machines: Sequence[KnownMachine], selected: frozenset[str]) -> None:
    """Refuse a GPU that none of the machines has."""
    indices = {str(card.index) for machine in machines for card in machine.gpus}
    uuids = {card.uuid for machine in machines for card in machine.gpus}
    for name in sorted(selected - indices - uuids):
        known = clip(", ".join(sorted(indices)), 200) or "none"
        whose = machines[0].name if len(machines) == 1 else f"{len(machines)} machines"
        raise BadParameterError("gpu", f"is {quoted(name)}, but the GPUs of {whose} are: {known}")
