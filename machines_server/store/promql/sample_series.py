"""Which series a sample belongs to, and when a series ends."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any

from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS
from machines_server.core.sample import (
    THOUSANDTHS,
    GpuSample,
    HostSample,
    LoadedModel,
    Sample,
    State,
    metrics_of,
    scale,
)
from machines_server.store.promql.message import Rows, ends, label
from machines_server.store.promql.names import (
    END_OF_STAMPS_MS,
    FIRST_STAMP_MS,
    GPU_INFO,
    STAMP_STEP_MS,
    VRAM_OF_MODEL,
    series_name,
    stamp_ms,
)

MAX_NEW_SERIES_AN_HOUR = 1000
"""How many series of GPUs and models a machine may add within an hour, since hosts choose their names."""
_MAX_SHAPES, _MAX_KEPT_LABELS = 4, 4000
HOUR_MS = 3_600_000


def _split(kind: type[HostSample | GpuSample]) -> tuple[list[str], list[str]]:
    """The metrics that are kept in thousandths, and those that are kept as they are."""
    names: tuple[list[str], list[str]] = [], []
    for one in metrics_of(kind):
        names[scale(one) == 1].append(one.name)
    return names


_SERIES_NAMES = {metric.column: series_name(metric) for metric in (*MACHINE_METRICS, *GPU_METRICS)}
_OWN_NAMES = (_SERIES_NAMES["up"], _SERIES_NAMES["poll_s"])
(_HOST_SCALED, _HOST_PLAIN), (_GPU_SCALED, _GPU_PLAIN) = _split(HostSample), _split(GpuSample)
_HOST_NAMES = [_SERIES_NAMES[column] for column in _HOST_SCALED + _HOST_PLAIN]
_GPU_NAMES = [_SERIES_NAMES[column] for column in _GPU_SCALED + _GPU_PLAIN]
_host_scaled, _host_plain = attrgetter(*_HOST_SCALED), attrgetter(*_HOST_PLAIN)
_gpu_scaled, _gpu_plain = attrgetter(*_GPU_SCALED), attrgetter(*_GPU_PLAIN)
_card = attrgetter("uuid", "index", "model")

_Value = int | float | None
_Shape = tuple[tuple[tuple[str, int, str | None], ...] | None, tuple[str, ...] | None, tuple[int, ...]]
"""Determines the series of a sample: its GPUs (UUID, index, model) and its models, both None if there was no
answer, and the places of unknown values. A plain tuple, since each sample makes one."""


@cache
def _series_label(name: str) -> bytes:
    return label("__name__", name)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The series of a shape: the places of their values (None: all), and the labels by who answered."""

    rows: Rows
    places: Sequence[int] | None
    of_host: frozenset[bytes]
    of_models: frozenset[bytes]


@dataclass(slots=True)
class _Machine:
    """What was sent about one machine."""

    name: str
    site: str
    last_ms: int = 0
    shape: _Shape | None = None
    plan: _Plan | None = None
    plans: dict[_Shape, _Plan] = field(default_factory=dict)
    labels: dict[tuple[str, ...], bytes] = field(default_factory=dict)
    """The labels of each series that was ever sent, by what identifies it."""
    own: frozenset[bytes] = frozenset()
    of_host: frozenset[bytes] = frozenset()
    of_models: frozenset[bytes] = frozenset()
    """The series that have not ended."""
    _name: bytes = field(init=False, repr=False)
    _site: bytes = field(init=False, repr=False)
    hour: int = 0
    new: int = 0
    """How many series with names chosen by the host were added within that hour."""
    plan_again_ms: int = END_OF_STAMPS_MS
    """When series that were left out may be added."""

    def __post_init__(self) -> None:
        self._name, self._site = label("machine", self.name), label("site", self.site)

    def labels_of(self, name: str, other: str = "", index: str = "", model: str = "") -> bytes:
        """The labels of a series, sorted; `other` is a GPU or, for the memory of a model, its name."""
        if name == VRAM_OF_MODEL:
            return b"".join((_series_label(name), self._name, label("model", other), self._site))
        if not other:
            return b"".join((_series_label(name), self._name, self._site))
        gpu = label("gpu", other), label("index", index), self._name, label("model", model)
        return b"".join((_series_label(name), *gpu, self._site))


class SampleSeries:
    """Makes the messages of samples; for one thread at a time.

    What a host or its model server no longer reports when it answers has ended: a GPU, a model, a value.
    If it did not answer, nothing is known, so nothing ends.
    """

    def __init__(self) -> None:
        self._machines: dict[str, _Machine] = {}
        self.left_out = 0
        """How many series were left out because a machine added too many within an hour."""

    def add(self, parts: list[bytes], sample: Sample, site: str = "") -> int:
        """Append the message of a sample; returns how many samples its series have in total.

        There are none if the machine already has samples with that timestamp.
        """
        at_ms = stamp_ms(sample.at)
        if not FIRST_STAMP_MS <= at_ms < END_OF_STAMPS_MS - STAMP_STEP_MS:
            return 0
        machine, moved = self._machines.get(sample.machine), 0
        if machine is None or machine.site != site:
            moved = self.remove(parts, sample.machine, sample.at)
            machine = self._machines[sample.machine] = _Machine(sample.machine, site)
        if machine.last_ms == at_ms:
            return moved
        machine.last_ms = at_ms
        if at_ms >= machine.plan_again_ms:
            machine.plan_again_ms, machine.shape = END_OF_STAMPS_MS, None
            machine.plans.clear()
        shape, values = _read(sample)
        plan, ended = machine.plan, 0
        if plan is None or shape != machine.shape:
            plan, gone = self._change(machine, shape, at_ms)
            if gone:
                parts.append(ends(gone, at_ms))
                ended = len(gone)
        known: Any = values if plan.places is None else [values[place] for place in plan.places]
        parts.append(plan.rows.message(known, at_ms))  # what is unknown has no place
        return moved + ended + plan.rows.count

    def remove(self, parts: list[bytes], machine: str, at: float) -> int:
        """End all series of a machine that is no longer declared; returns how many samples that takes."""
        known = self._machines.pop(machine, None)
        if known is None or not known.last_ms:
            return 0
        at_ms = max(stamp_ms(at), known.last_ms + STAMP_STEP_MS)
        left = known.own | known.of_host | known.of_models
        parts.append(ends(sorted(left), min(at_ms, END_OF_STAMPS_MS - 1)))
        return len(left)

    def forget(self, machine: str) -> None:
        """Forget a machine that another poller now polls; its series go on."""
        self._machines.pop(machine, None)

    def _change(self, machine: _Machine, shape: _Shape, at_ms: int) -> tuple[_Plan, list[bytes]]:
        """Follow a change in what a machine reports; also returns the series that have ended."""
        plan = machine.plans.get(shape)
        if plan is None:
            if len(machine.plans) >= _MAX_SHAPES:
                machine.plans.clear()
            plan = machine.plans[shape] = self._plan(machine, shape, at_ms)
        machine.shape, machine.plan = shape, plan
        ended = set[bytes]()
        cards, models, _ = shape
        if cards is not None:
            ended |= machine.of_host - plan.of_host
            machine.of_host = plan.of_host
        if models is not None:
            ended |= machine.of_models - plan.of_models
            machine.of_models = plan.of_models
        return plan, sorted(ended)

    def _plan(self, machine: _Machine, shape: _Shape, at_ms: int) -> _Plan:
        places: dict[bytes, int] = {}
        of_host, of_models = set[bytes](), set[bytes]()
        keys, gaps = list(_keys(shape)), frozenset(shape[2])
        for place, (source, key) in enumerate(keys):
            if place in gaps:
                continue
            labels = self._labels(machine, key, at_ms)
            if labels is None:
                self.left_out += 1
            elif labels not in places:
                places[labels] = place
                if source is not None:
                    (of_host if source == "host" else of_models).add(labels)
        machine.own |= places.keys() - of_host - of_models
        kept = list(places.values())
        return _Plan(
            Rows(list(places)),
            None if len(kept) == len(keys) else kept,
            frozenset(of_host),
            frozenset(of_models),
        )

    def _labels(self, machine: _Machine, key: tuple[str, ...], at_ms: int) -> bytes | None:
        """The labels of a series; None for a new name if there were too many within this hour."""
        labels = machine.labels.get(key)
        if labels is not None:
            return labels
        if len(key) > 1:  # names that the host chooses
            hour = at_ms // HOUR_MS
            if machine.hour != hour:
                machine.hour, machine.new = hour, 0
            if machine.new >= MAX_NEW_SERIES_AN_HOUR:
                machine.plan_again_ms = (hour + 1) * HOUR_MS
                return None
            machine.new += 1
            if len(machine.labels) >= _MAX_KEPT_LABELS:
                machine.labels.clear()
        found = machine.labels[key] = machine.labels_of(*key)
        return found


def _read(sample: Sample) -> tuple[_Shape, list[_Value]]:
    """The values of a sample, in the order of `_keys`."""
    up, poll_s, models = 0, 0.0, None
    for result in sample.results.values():
        if result.state is State.OK:
            up = 1
        if result.took_s > poll_s:
            poll_s = result.took_s
        if result.answer is not None and result.answer.models is not None:
            models = _add_models(models or {}, result.answer.models)
    values: list[_Value] = [up, round(poll_s * THOUSANDTHS) / THOUSANDTHS]
    host_result = sample.host_result
    host = host_result.answer.host if host_result is not None and host_result.answer is not None else None
    cards = None
    if host is not None:
        values += _to_thousandths(_host_scaled(host))
        values += _host_plain(host)
        cards = tuple([_card(one) for one in host.gpu])
        for gpu in host.gpu:
            values += _to_thousandths(_gpu_scaled(gpu))
            values += _gpu_plain(gpu)
            values.append(1)
    if models is not None:
        values += models.values()
    gaps = tuple([place for place, one in enumerate(values) if one is None]) if None in values else ()
    return (cards, None if models is None else tuple(models), gaps), values


def _to_thousandths(values: Iterable[_Value]) -> list[_Value]:
    """The values as a store that keeps thousandths would return them."""
    return [
        one if type(one) is int or one is None else round(one * THOUSANDTHS) / THOUSANDTHS for one in values
    ]


def _keys(shape: _Shape) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """For each value, its source (None: this server), and the name and labels of its series."""
    cards, models, _ = shape
    yield from ((None, (name,)) for name in _OWN_NAMES)
    if cards is not None:
        yield from (("host", (name,)) for name in _HOST_NAMES)
        for uuid, index, model in cards:
            yield from (("host", (name, uuid)) for name in _GPU_NAMES)
            yield "host", (GPU_INFO, uuid, str(index), model or "")
    for name in models or ():
        yield "models", (VRAM_OF_MODEL, name)


def _add_models(found: dict[str, int | None], models: Iterable[LoadedModel]) -> dict[str, int | None]:
    """Add the GPU memory of each model, summed if several have one name; None is unknown."""
    for one in models:
        before, more = found.get(one.model, 0), one.size_vram_bytes
        found[one.model] = None if before is None or more is None else before + more
    return found
