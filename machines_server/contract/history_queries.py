"""The query parameters of requests about the past, and their meaning."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, field

from machines_server.contract.lists import REPEATABLE, list_values
from machines_server.contract.requests import MAX_WAIT_S
from machines_server.core.past.events import EVENT_TYPES
from machines_server.core.past.metrics import METRICS, Metric
from machines_server.core.past.rollup import MAX_STEP_S
from machines_server.core.routing.similar_names import similar_names
from machines_server.core.text import is_plain, quoted
from machines_server.core.times import parse_time
from machines_server.errors import BadParameterError

DEFAULT_METRICS = ("cpu_percent", "ram_used_gb", "vram_used_gb")
DEFAULT_EVENTS, MAX_EVENTS = 100, 10_000
_MAX_ID = 2**62

AQuery = TypeVar("AQuery", bound="RangeQuery")
Texts = tuple[str, ...]


def _as(schema: dict[str, Any], type_: str = "text") -> Meta:
    """What docs/api.md and openapi.json say of a parameter, which arrives as text."""
    return Meta(extra={"type": type_, "schema": schema})


_TIME = "^(|now|-[0-9]{1,9}[smhdw]|[0-9]{1,12}([.][0-9]{1,9})?|[0-9]{4}-.+)$"
Time = Annotated[str, _as({"type": "string", "pattern": _TIME, "examples": ["-24h"]}, "time")]
Limit = Annotated[str, _as({"type": "integer", "minimum": 1, "maximum": MAX_EVENTS}, "integer")]
EventId = Annotated[str, _as({"type": "integer", "minimum": 0, "maximum": _MAX_ID}, "integer")]
Wait = Annotated[str, _as({"type": "number", "minimum": 0, "maximum": MAX_WAIT_S}, "number")]
Step = Annotated[
    str, _as({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MAX_STEP_S}]})
]
Format = Annotated[str, _as({"enum": ["json", "csv"]})]
MetricNames = Annotated[Texts, _as({"type": "array", "items": {"enum": list(METRICS)}}, "list")]
EventTypes = Annotated[Texts, _as({"type": "array", "items": {"enum": list(EVENT_TYPES)}}, "list")]


class RangeQuery(Struct, frozen=True, kw_only=True):
    """A range of time."""

    from_: Time = field(name="from", default="")
    """Where it begins: RFC 3339 with a zone, epoch seconds, `now`, or back from now (`-90s`, `-24h`, `-7d`,
    `-2w`); a day ago by default."""
    to: Time = ""
    """Where it ends, in the same forms; now by default."""

    def range(self, now: float, default_from: str = "-24h", default_to: str = "now") -> tuple[float, float]:
        """Its ends in epoch seconds; by default the last day."""
        from_at = _moment("from", self.from_ or default_from, now)
        to_at = _moment("to", self.to or default_to, now)
        if from_at >= to_at:
            raise BadParameterError("from", "is not before to")
        return from_at, to_at


class AvailabilityQuery(RangeQuery, frozen=True, kw_only=True):
    """GET /api/availability and /api/machines/NAME/availability."""


class ModelsQuery(RangeQuery, frozen=True, kw_only=True):
    """GET /api/models."""


class SeriesQuery(RangeQuery, frozen=True, kw_only=True):
    """GET /api/machines/NAME/history."""

    metric: MetricNames = ()
    """Names of metrics; `cpu_percent`, `ram_used_gb` and `vram_used_gb` by default."""
    step: Step = "auto"
    """Seconds, or `auto` for at most 500 points in each series."""
    gpu: Texts = ()
    """Indices or UUIDs of GPUs; all by default."""
    format: Format = ""
    """`json`, which is the default, or `csv`."""

    def metrics(self) -> list[Metric]:
        """The requested metrics, without repetitions."""
        names = dict.fromkeys(self.metric or DEFAULT_METRICS)
        for name in names:
            if name not in METRICS:
                why = f"is {quoted(name)}: use one or more of {', '.join(METRICS)}"
                raise BadParameterError("metric", why, similar_names(name, METRICS))
        return [METRICS[name] for name in names]

    def gpus(self) -> frozenset[str] | None:
        """Indices and UUIDs, or None for all GPUs."""
        return frozenset(self.gpu) or None

    def step_s(self) -> int | None:
        """Seconds, or None for `auto`."""
        if self.step == "auto":
            return None
        step_s = int(self.step) if re.fullmatch("[0-9]{1,9}", self.step) else 0
        if not 1 <= step_s <= MAX_STEP_S:
            why = f"is {quoted(self.step)}: use seconds from 1 to {MAX_STEP_S}, or auto"
            raise BadParameterError("step", why)
        return step_s

    def is_csv(self) -> bool:
        """Return whether the answer is CSV."""
        if self.format not in ("", "json", "csv"):
            raise BadParameterError("format", f"is {quoted(self.format)}: use json or csv")
        return self.format == "csv"


class FleetSeriesQuery(SeriesQuery, frozen=True, kw_only=True):
    """GET /api/history."""

    machine: Texts = ()
    """Names of machines, including removed ones; by default all that were declared in the range."""


class EventsQuery(RangeQuery, frozen=True, kw_only=True):
    """GET /api/events; without a range, all stored events."""

    from_: Time = field(name="from", default="")
    """Where it begins: RFC 3339 with a zone, epoch seconds, `now`, or back from now (`-90s`, `-24h`, `-7d`,
    `-2w`); with the oldest event by default."""
    to: Time = ""
    """Where it ends, in the same forms; with the newest event by default."""
    machine: Texts = ()
    """Names of machines; all by default."""
    type: EventTypes = ()
    """Types of events; all by default."""
    limit: Limit = ""
    """The most events to return, from 1 to 10,000; 100 by default."""
    after: EventId = ""
    """The id of an event: return the first ones written after it instead of the newest."""
    before: EventId = ""
    """The id of an event: return those that follow it when the newest come first. Not with `after`."""
    wait_s: Wait = ""
    """How many seconds to wait until there is an event, at most 60."""

    def types(self) -> list[str]:
        """The requested types, without repetitions; empty for all."""
        types = list(dict.fromkeys(self.type))
        for name in types:
            if name not in EVENT_TYPES:
                why = f"is {quoted(name)}: use one or more of {', '.join(EVENT_TYPES)}"
                raise BadParameterError("type", why, similar_names(name, EVENT_TYPES))
        return types

    def limit_number(self) -> int:
        """The most events to return."""
        return _whole("limit", self.limit, 1, MAX_EVENTS) if self.limit else DEFAULT_EVENTS

    def wait_number(self) -> float:
        """The most seconds to wait until there is an event."""
        try:
            wait_s = float(self.wait_s or 0) if is_plain(self.wait_s or "") else -1.0
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s <= MAX_WAIT_S:
            why = f"is {quoted(self.wait_s)}: use seconds from 0 to {MAX_WAIT_S:g}"
            raise BadParameterError("wait_s", why)
        return wait_s

    def after_id(self) -> int | None:
        """The id of the event after which the page begins, in the order of writing."""
        return _whole("after", self.after, 0, _MAX_ID) if self.after else None

    def before_id(self) -> int | None:
        """The id of the event after which the page begins, newest first."""
        if self.before and self.after:
            raise BadParameterError("before", "cannot be given together with after")
        return _whole("before", self.before, 0, _MAX_ID) if self.before else None


def read_query(kind: type[AQuery], given: Iterable[tuple[str, Sequence[str]]]) -> AQuery:
    """The parameters of a query; raises BadParameterError for unknown ones, which may be misspelt."""
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    parameters: dict[str, Any] = {}
    for name, texts in given:
        if name not in names:
            raise BadParameterError(
                name, f"is not known; use {', '.join(names)}", get_close_matches(name, names)
            )
        if name in REPEATABLE:
            parameters[names[name]] = tuple(list_values(name, texts))
        elif len(texts) > 1:
            raise BadParameterError(name, "is given more than once")
        else:
            parameters[names[name]] = texts[0]
    return kind(**parameters)


def _moment(name: str, text: str, now: float) -> float:
    try:
        return parse_time(text, now)
    except ValueError as error:
        raise BadParameterError(name, f"is {quoted(text)}: {error}") from None


def _whole(name: str, text: str, least: int, most: int) -> int:
    try:
        value = int(text) if is_plain(text) else least - 1
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise BadParameterError(name, f"is {quoted(text)}: use a whole number from {least} to {most}")
    return value
