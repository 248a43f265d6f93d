"""Sizes, durations and times as people write them."""

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
UNKNOWN = "-"


def gib(size_gib: float | None) -> str:
    """A size with at most one decimal, such as `3.5 GiB`; `-` if it is unknown."""
    return UNKNOWN if size_gib is None else f"{number(size_gib)} GiB"


def gib_of_bytes(size_bytes: float | None) -> str:
    """The same of bytes."""
    return gib(None if size_bytes is None else size_bytes / 2**30)


def number(value: float | None, decimals: int = 1) -> str:
    """A number without needless zeros; `-` if it is unknown."""
    if value is None:
        return UNKNOWN
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def significant(value: float) -> str:
    """A number with as many decimals as people need to tell it from another."""
    size = abs(value)
    if size and size < 1:
        return f"{value:.3g}"
    return number(value, 1 if size >= 10 else 2)


def with_unit(value: float | None, unit: str) -> str:
    """A whole number and its unit; nothing if it is unknown."""
    return "" if value is None else f"{number(value, 0)} {unit}"


def duration(seconds: float) -> str:
    """Seconds in at most two units, such as `2 h 5 min`, and never less than 0."""
    s = max(0, round(seconds))
    if s < _MINUTE_S:
        return f"{s} s"
    if s < _HOUR_S:
        return f"{s // _MINUTE_S} min"
    if s < _DAY_S:
        minutes = s % _HOUR_S // _MINUTE_S
        return f"{s // _HOUR_S} h" + (f" {minutes} min" if minutes else "")
    hours = s % _DAY_S // _HOUR_S
    return f"{s // _DAY_S} d" + (f" {hours} h" if hours and s < 7 * _DAY_S else "")


def moment(rfc3339: str) -> datetime:
    """A time of the API in the local time zone; raises ValueError."""
    return datetime.fromisoformat(rfc3339).astimezone()


def clock(rfc3339: str) -> str:
    """A time of the API as local time of day, such as `14:03:07`; other texts are returned unchanged."""
    return _formatted(rfc3339, "%H:%M:%S")


def date_time(rfc3339: str) -> str:
    """A time of the API as local date and time; other texts are returned unchanged."""
    return _formatted(rfc3339, "%Y-%m-%d %H:%M:%S")


def _formatted(rfc3339: str, form: str) -> str:
    try:
        return moment(rfc3339).strftime(form)
    except (ValueError, OverflowError):
        return rfc3339


def age_s(rfc3339: str, now: datetime) -> float:
    """How many seconds ago a time of the API was."""
    return (now - moment(rfc3339)).total_seconds()


def with_local_times(text: str) -> str:
    """A text of the server with its times in the local time zone."""
    return _RFC3339.sub(lambda found: date_time(found[0]), text)


def until(expires_at: str | None, now: datetime) -> str:
    """When a model will leave memory, as `ollama ps` says it.

    A model that should have left is in use: its time is postponed when the request ends.
    """
    if expires_at is None:
        return "Forever"
    left = moment(expires_at) - now
    return f"{_long_duration(left)} from now" if left > timedelta() else "in use"


_LONG_UNITS = (
    ("year", 365 * _DAY_S, 2),
    ("month", 30 * _DAY_S, 2),
    ("week", 7 * _DAY_S, 2),
    ("day", _DAY_S, 2),
    ("hour", _HOUR_S, 1),
    ("minute", _MINUTE_S, 1),
)
"""A unit, its seconds, and how many of it there must be."""


def _long_duration(left: timedelta) -> str:
    seconds = left.total_seconds()
    for unit, unit_s, least in _LONG_UNITS:
        if (count := int(seconds // unit_s)) >= least:
            return f"{count} {unit}s" if count > 1 else f"About {'an' if unit == 'hour' else 'a'} {unit}"
    count = int(seconds)
    return f"{count} second{'' if count == 1 else 's'}" if count else "Less than a second"


def now() -> datetime:
    """The present time."""
    return datetime.now(UTC)
