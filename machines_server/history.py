"""The questions about the past: series, events, availability, models."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from machines_server.core.availability import availability, ratio
from machines_server.core.changes import EVENT_TYPES
from machines_server.core.metrics import METRICS, Metric
from machines_server.core.model_names import canonical
from machines_server.core.registry import Registry
from machines_server.core.rollup import (
    HOUR,
    MAX_POINTS,
    MAX_STEP_S,
    TIER_STEPS_S,
    Fold,
    auto_step_s,
    coarsest_tier,
)
from machines_server.core.times import parse_time, rfc3339
from machines_server.errors import BadParameterError, UnknownMachineError
from machines_server.store.history import HistoryReader, KnownMachine
from machines_server.store.rollups import Retention

DEFAULT_METRICS = "cpu_percent,ram_used_gb,vram_used_gb"
MAX_EVENTS = 10_000

Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of a machine or of one of its GPUs; points are (epoch second, fold)."""

    metric: Metric
    gpu: int | None
    points: Sequence[tuple[int, Fold]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked for, in whole steps from `from_s` to `to_s`."""

    machine: str
    from_s: int
    to_s: int
    step_s: int
    tier: str
    series: Sequence[Series]

    def as_json(self) -> dict[str, Any]:
        """As the API writes it, with orjson."""
        return {
            "machine": self.machine,
            "from": rfc3339(self.from_s),
            "to": rfc3339(self.to_s),
            "step_s": self.step_s,
            "tier": self.tier,
            "series": [
                {
                    "metric": one.metric.name,
                    "unit": one.metric.unit,
                    "gpu": one.gpu,
                    # Each by itself: while orjson writes, no other thread goes on, and one of them polls.
                    "points": orjson.Fragment(
                        orjson.dumps([_point(at, fold, one.metric.one) for at, fold in one.points])
                    ),
                }
                for one in self.series
            ],
        }

    def as_csv(self) -> Iterator[str]:
        """Line by line: time, then average, least, most and number for each series."""
        heads = ["time"]
        for one in self.series:
            name = one.metric.name if one.gpu is None else f"gpu{one.gpu} {one.metric.name}"
            heads += [f"{name} {part} [{one.metric.unit}]" for part in ("avg", "min", "max")] + [f"{name} n"]
        yield _csv_line(heads)
        columns = [dict(one.points) for one in self.series]
        for at in sorted({at for column in columns for at in column}):
            row: list[Any] = [rfc3339(at)]
            for one, column in zip(self.series, columns, strict=True):
                row += _point(at, column[at], one.metric.one)[1:] if at in column else [None] * 4
            yield _csv_line(row)


class History:
    """Answers from the store, removed machines included."""

    def __init__(
        self, reader: HistoryReader, registry: Callable[[float], Registry], retention: Retention
    ) -> None:
        self._reader, self._registry = reader, registry
        self._kept_s = retention.by_tier

    def series(self, name: str, parameters: Parameters) -> Answer:
        """Metrics of one machine over a range; raises BadParameterError, UnknownMachineError, StoreError."""
        now = time.time()
        metrics = _metrics(parameters.get("metric") or DEFAULT_METRICS)
        from_at, to_at = _range(parameters, now)
        machine = self._machine(name)
        step_s = self._step_s(parameters.get("step", "auto"), from_at, to_at, now)
        from_s, to_s = int(from_at // step_s * step_s), int(-(-to_at // step_s) * step_s)
        if (points := (to_s - from_s) // step_s) > MAX_POINTS:
            least = -(-(to_s - from_s) // MAX_POINTS)
            why = f"gives {points} points, more than {MAX_POINTS}: use {least} or more"
            raise BadParameterError("step", why)
        wanted = list(_wanted(metrics, machine, parameters.get("gpu")))
        found = self._reader.series(
            machine.id, [(metric, key) for metric, _, key in wanted], from_s, to_s, step_s
        )
        series = [Series(metric, gpu, points) for (metric, gpu, _), points in zip(wanted, found, strict=True)]
        return Answer(machine.name, from_s, to_s, step_s, coarsest_tier(step_s), series)

    def events(self, parameters: Parameters) -> list[dict[str, Any]]:
        """What happened, newest first; raises BadParameterError, UnknownMachineError, StoreError."""
        now = time.time()
        from_at, to_at = _range(parameters, now, default="0", default_to=str(now + 1))
        types = [one for one in parameters.get("type", "").split(",") if one]
        for one in types:
            if one not in EVENT_TYPES:
                raise BadParameterError("type", f"is {one!r}: use one or more of {', '.join(EVENT_TYPES)}")
        limit = _whole(parameters, "limit", 100, 1, MAX_EVENTS)
        after = _whole(parameters, "after", 0, 0, 2**62) if parameters.get("after") else None
        machine = self._machine(parameters["machine"]).name if parameters.get("machine") else None
        rows = self._reader.events(machine, types, from_at, to_at, limit, after)
        return [
            {"id": row.id, "at": rfc3339(row.at), "machine": row.machine, "type": row.type, **row.detail}
            for row in rows
        ]

    def availability(self, name: str, parameters: Parameters) -> dict[str, Any]:
        """Seconds per status; raises BadParameterError, UnknownMachineError, StoreError."""
        from_at, to_at = _range(parameters, time.time())
        machine = self._machine(name)
        seconds = availability(
            self._reader.statuses(machine.id, from_at, to_at),
            self._reader.poll_spans(from_at, to_at),
            from_at,
            to_at,
        )
        return {
            "machine": machine.name,
            "from": rfc3339(from_at),
            "to": rfc3339(to_at),
            "seconds": seconds,
            "ratio": ratio(seconds),
        }

    def models(
        self,
        parameters: Parameters,
        loaded: Mapping[str, Sequence[str]],
        on_disk: Mapping[str, Sequence[str]],
    ) -> dict[str, Any]:
        """Every model that is declared, on a disk, or was ever loaded.

        `loaded` says which machine holds what now, `on_disk` what it could load.
        """
        now = time.time()
        from_at, to_at = _range(parameters, now)
        models: dict[str, dict[str, Any]] = {}

        def of(model: str) -> dict[str, Any]:
            new: dict[str, Any] = {"model": model, "declared": [], "on_disk": [], "loaded": []}
            new |= {"last_loaded": None, "residency_s": 0.0}
            return models.setdefault(canonical(model) or model, new)

        for machine in self._registry(now):
            for model in machine.models:
                of(model)["declared"].append(machine.name)
        for key, by_machine in (("on_disk", on_disk), ("loaded", loaded)):
            for name, models_there in by_machine.items():
                for model in models_there:
                    of(model)[key].append(name)
        for row in sorted(self._reader.residency(from_at, to_at), key=lambda row: row.last_seen):
            found = of(row.model)
            found["last_loaded"] = {"machine": row.machine, "at": rfc3339(row.last_seen)}
            found["residency_s"] = round(found["residency_s"] + row.resident_s, 3)
        return {
            "models": sorted(models.values(), key=lambda model: str(model["model"])),
            "from": rfc3339(from_at),
            "to": rfc3339(to_at),
        }

    def _machine(self, name: str) -> KnownMachine:
        machine = self._reader.machine(name)
        if machine is None:
            raise UnknownMachineError(f"There is no machine named {name!r}, and there never was.")
        return machine

    def _step_s(self, text: str, from_at: float, to_at: float, now: float) -> int:
        kept = (tier for tier, kept_s in self._kept_s.items() if now - from_at <= kept_s)
        least_s = TIER_STEPS_S.get(next(kept, HOUR), 1)
        if text == "auto":
            return auto_step_s(to_at - from_at, least_s)
        step_s = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
        if not 1 <= step_s <= MAX_STEP_S:
            raise BadParameterError("step", f"is {text!r}: use seconds from 1 to {MAX_STEP_S}, or auto")
        if least_s > 1 and step_s % least_s:
            why = f"so far back nothing finer than {least_s} s is kept: use a multiple of {least_s}, or auto"
            raise BadParameterError("step", f"is {step_s}, but {why}")
        return step_s


def _range(
    parameters: Parameters, now: float, default: str = "-24h", default_to: str = "now"
) -> tuple[float, float]:
    moments = []
    for name, fallback in (("from", default), ("to", default_to)):
        text = parameters.get(name) or fallback
        try:
            moments.append(parse_time(text, now))
        except ValueError as error:
            raise BadParameterError(name, f"is {text!r}: {error}") from None
    if moments[0] >= moments[1]:
        raise BadParameterError("from", "is not before to")
    return moments[0], moments[1]


def _metrics(text: str) -> list[Metric]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in METRICS:
            raise BadParameterError("metric", f"is {name!r}: use one or more of {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


def _wanted(
    metrics: Sequence[Metric], machine: KnownMachine, gpu: str | None
) -> Iterator[tuple[Metric, int | None, int]]:
    """(metric, index of GPU, id) of every series; without `gpu` those of all GPUs."""
    indexes = {str(index) for _, index, _ in machine.gpus}
    asked = gpu.split(",") if gpu else None
    for one in asked or ():
        if one not in indexes:
            known = ", ".join(sorted(indexes)) or "none"
            raise BadParameterError("gpu", f"is {one!r}, but the GPUs of {machine.name} are: {known}")
    for metric in metrics:
        if not metric.is_gpu:
            yield metric, None, machine.id
            continue
        for key, index, _ in machine.gpus:
            if asked is None or str(index) in asked:
                yield metric, index, key


def _whole(parameters: Parameters, name: str, default: int, least: int, most: int) -> int:
    text = parameters.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise BadParameterError(name, f"is {text!r}: use a whole number from {least} to {most}")
    return value


def _point(at: int, fold: Fold, one: int) -> list[float | int]:
    """Average, least, most and number of a bucket that has values, which are kept as `one` for each unit."""
    n, total, least, most = fold
    if total is None or least is None or most is None:
        raise ValueError(f"the bucket at {at} is empty")
    return [at, round(total / n / one, 4), round(least / one, 4), round(most / one, 4), n]


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
