"""The past: GET /api/history, /api/availability, the same of one machine, and GET /api/models."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Raw, Struct, field

from machines_server.contract.encoding import encode_parts
from machines_server.contract.units import Count, Moment, Seconds
from machines_server.core.past.availability import Availability as StoredAvailability
from machines_server.core.past.rollup import Fold
from machines_server.core.past.series import KnownGpu, SeriesRange
from machines_server.core.past.series import Series as StoredSeries
from machines_server.core.status import Status
from machines_server.core.text import spreadsheet_cell
from machines_server.core.times import rfc3339

Point = Annotated[
    tuple[int, float, float, float, int],
    Meta(
        description="The start of a bucket, in epoch seconds; the average, minimum and maximum of its values"
        " in the unit of the series; the number of values, at least one."
    ),
]
StepSeconds = Annotated[int, Meta(description="Seconds.", ge=1, extra={"unit": "s"})]
Tier = Annotated[str, Meta(pattern="^(raw|1m|10m|1h)$")]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Points = TypeVar("Points")
"""The points of a series: a sequence of Point, or its JSON."""


class Series(Struct, Generic[Points], frozen=True):
    """One metric of a machine or of one of its GPUs."""

    metric: str
    unit: str
    """The unit of the values: `percent`, `GiB`, `seconds`, `processes`, `celsius`, `watts`, `1`."""
    gpu: int | None
    """The index of the GPU; null for a metric of the machine."""
    uuid: str | None
    """The UUID of the GPU; null for a metric of the machine."""
    model: str | None
    """The GPU's model; null for a metric of the machine, or if unknown."""
    points: Points
    """`[epoch_s, avg, min, max, n]` of each bucket that has values, in order of time: when it begins; the
    average, minimum and maximum in `unit`; the number of values, at least 1."""


class History(Struct, Generic[Points], frozen=True):
    """GET /api/machines/NAME/history."""

    machine: str
    from_: Moment = field(name="from")
    """Where the first bucket begins: the requested time, rounded down to a whole step."""
    to: Moment
    """Where the last bucket ends: the requested time, rounded up to a whole step."""
    step_s: StepSeconds
    """The length of each bucket."""
    tier: Tier
    """The coarsest tier that the answer was computed from; values are exact in any case."""
    series: Sequence[Series[Points]]
    """By metric, in the order requested, then by GPU."""


class MachineHistory(Struct, Generic[Points], frozen=True):
    """The series of one machine."""

    machine: str
    series: Sequence[Series[Points]]
    """By metric, in the order requested, then by GPU."""


class FleetHistory(Struct, Generic[Points], frozen=True):
    """GET /api/history: the same buckets for all machines."""

    from_: Moment = field(name="from")
    """Where the first bucket begins: the requested time, rounded down to a whole step."""
    to: Moment
    """Where the last bucket ends: the requested time, rounded up to a whole step."""
    step_s: StepSeconds
    """The length of each bucket."""
    tier: Tier
    """The coarsest tier that the answer was computed from; values are exact in any case."""
    machines: Sequence[MachineHistory[Points]]
    """In the order requested; by name if the request names none."""


class StatusSeconds(Struct, frozen=True):
    """How many seconds a machine had each status; the four add up to the range."""

    online: Seconds
    degraded: Seconds
    offline: Seconds
    unknown: Seconds
    """This includes times when the server did not poll."""


class MachineAvailability(Struct, frozen=True, kw_only=True):
    """How available one machine was."""

    machine: str
    seconds: StatusSeconds
    ratio: Ratio | None
    """The fraction of the known time in which an endpoint answered; null if none is known."""
    outages: Count
    """How often the machine was offline. An outage lasts until the machine answers again or is removed."""
    longest_outage_s: Seconds
    """The known seconds of the longest outage within the range; 0 if there was none."""


class Availability(Struct, frozen=True, kw_only=True):
    """GET /api/machines/NAME/availability."""

    machine: str
    from_: Moment = field(name="from")
    to: Moment
    seconds: StatusSeconds
    ratio: Ratio | None
    """The fraction of the known time in which an endpoint answered; null if none is known."""
    outages: Count
    """How often the machine was offline. An outage lasts until the machine answers again or is removed."""
    longest_outage_s: Seconds
    """The known seconds of the longest outage within the range; 0 if there was none."""


class FleetAvailability(Struct, frozen=True):
    """GET /api/availability: every machine that was declared at some time of the range."""

    from_: Moment = field(name="from")
    to: Moment
    machines: Sequence[MachineAvailability]
    """Those with the most outages first, then those with the most seconds offline, then by name."""


class LastLoaded(Struct, frozen=True):
    """Where and when a model was last seen in memory."""

    machine: str
    at: Moment


class Model(Struct, frozen=True):
    """A model of the fleet."""

    model: str
    declared: Sequence[str]
    """The machines whose files list it."""
    on_disk: Sequence[str]
    """The machines that have it on disk."""
    loaded: Sequence[str]
    """The machines that hold it in memory now."""
    last_loaded: LastLoaded | None
    """Where it was last seen in memory; null if it never was."""
    residency_s: Seconds
    """How long it was in memory within the range, totalled over all machines."""
    resident_on: Sequence[str]
    """The machines that had it in memory within the range."""


class Models(Struct, frozen=True):
    """GET /api/models: every model that is declared, on a disk, or was ever loaded, sorted by name."""

    models: Sequence[Model]
    from_: Moment = field(name="from")
    to: Moment


def history(answer: SeriesRange) -> History[Raw]:
    """The series of the only machine of a range."""
    (machine,) = answer.machines
    return History(
        machine=machine.machine,
        from_=rfc3339(answer.from_s),
        to=rfc3339(answer.to_s),
        step_s=answer.step_s,
        tier=answer.tier,
        series=[_series(series) for series in machine.series],
    )


def fleet_history(answer: SeriesRange) -> FleetHistory[Raw]:
    """The series of all machines of a range."""
    return FleetHistory(
        from_=rfc3339(answer.from_s),
        to=rfc3339(answer.to_s),
        step_s=answer.step_s,
        tier=answer.tier,
        machines=[
            MachineHistory(one.machine, [_series(series) for series in one.series]) for one in answer.machines
        ],
    )


def machine_availability(machine: str, found: StoredAvailability) -> MachineAvailability:
    """A machine's availability as the API returns it."""
    return MachineAvailability(
        machine=machine,
        seconds=StatusSeconds(*(found.seconds[status] for status in Status)),
        ratio=found.ratio,
        outages=found.outages,
        longest_outage_s=found.longest_outage_s,
    )


def history_csv(answer: SeriesRange, *, with_machines: bool) -> Iterator[str]:
    """Series as lines of CSV: time, then average, minimum, maximum and count of each series.

    The head of each column begins with the name of the machine if `with_machines`.
    """
    all_series = [(one.machine, series) for one in answer.machines for series in one.series]
    heads = ["time"]
    for machine, series in all_series:
        heads += (f"{machine} {head}" if with_machines else head for head in _heads(series))
    yield _csv_line(heads)
    columns = [(dict(series.points), series.metric.stored_per_unit) for _, series in all_series]
    for at in sorted({at for points, _ in columns for at in points}):
        row: list[str | float | None] = [rfc3339(at)]
        for points, stored_per_unit in columns:
            row += _point(at, points[at], stored_per_unit)[1:] if at in points else [None] * 4
        yield _csv_line(row)


def _heads(series: StoredSeries) -> list[str]:
    """The heads of the four columns of a series."""
    metric, card = series.metric, series.card
    name = metric.name if card is None else f"gpu{card.index} {metric.name}"
    parts = [*(f"{name} {part} [{metric.unit}]" for part in ("avg", "min", "max")), f"{name} n"]
    return [f"{part}{_of_card(card)}" for part in parts]


def _series(series: StoredSeries) -> Series[Raw]:
    # Encoded one by one, because other threads wait while an encoder works.
    metric, card = series.metric, series.card
    points = encode_parts([_point(at, fold, metric.stored_per_unit) for at, fold in series.points])
    return Series(
        metric=metric.name,
        unit=metric.unit,
        gpu=card.index if card else None,
        uuid=card.uuid if card else None,
        model=card.model if card else None,
        points=Raw(points),
    )


def _point(at: int, fold: Fold, stored_per_unit: int) -> tuple[int, float, float, float, int]:
    """The point of a bucket that has values, which are stored as multiples of 1 / `stored_per_unit`."""
    n, total, least, greatest = fold
    if total is None or least is None or greatest is None:
        raise ValueError(f"the bucket at {at} is empty")
    mean, low, high = (round(value / stored_per_unit, 4) for value in (total / n, least, greatest))
    return at, mean, low, high, n


def _of_card(card: KnownGpu | None) -> str:
    """A suffix naming a column's card, since a replaced card may have the same index."""
    if card is None:
        return ""
    return f" of {card.uuid}" + (f" ({card.model})" if card.model else "")


def _csv_line(cells: Sequence[str | float | None]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([spreadsheet_cell(one) if isinstance(one, str) else one for one in cells])
    return line.getvalue()
