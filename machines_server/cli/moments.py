"""Times as people type them on the command line."""

import re
from datetime import date, datetime, time, timedelta
from typing import Any

import click

from machines_server.core.times import parse_time

_RELATIVE = re.compile(r"-([0-9]{1,9})([smhdwy])")
_TIME_OF_DAY = re.compile("[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")
_YEAR_D = 365
FORMS = "now, today, yesterday, 03:00, 2026-11-28, 2026-11-28 03:00, -90s, -24h, -7d, -2w, -1y or RFC 3339"
HELP = "03:00, yesterday, 2026-11-28 03:00, -24h, -7d, or RFC 3339."


def parse_moment(text: str, now: datetime) -> str:
    """A time as the API takes it; raises ValueError.

    What the API knows stays as it is, so that `-24h` counts from the server's present. Dates and times of day
    are in the time zone of this host: a date alone is its first moment, and a time of day alone is the latest
    one at `now`. A time that the clocks skip in spring is taken as if they had not yet been set forward, and
    of two equal times in autumn the first is meant.
    """
    text = " ".join(text.split())
    if not text:
        raise ValueError("a time is empty")
    if match := _RELATIVE.fullmatch(text):
        count, unit = int(match[1]), match[2]
        relative = f"-{count * _YEAR_D}d" if unit == "y" else text
        parse_time(relative, now.timestamp())
        return relative
    local = _local(text, now.astimezone().replace(tzinfo=None))
    if local is not None:
        return _epoch(local)
    parse_time(text, now.timestamp())
    return text


def _local(text: str, now: datetime) -> datetime | None:
    """A local time without a zone; None if the text has another form."""
    day_text, _, clock_text = text.replace("T", " ").rpartition(" ") if ":" in text else (text, "", "")
    if clock_text and not _TIME_OF_DAY.fullmatch(clock_text):
        return None
    hour, minute, second = [*map(int, clock_text.split(":") if clock_text else ()), 0, 0, 0][:3]
    clock = time(hour, minute, second)
    if not day_text:
        today = datetime.combine(now.date(), clock)
        return today if today <= now else datetime.combine(now.date() - timedelta(days=1), clock)
    day = _day(day_text, now.date())
    return None if day is None else datetime.combine(day, clock)


def _day(text: str, today: date) -> date | None:
    if text == "today":
        return today
    if text == "yesterday":
        return today - timedelta(days=1)
    return date.fromisoformat(text) if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None


def _epoch(local: datetime) -> str:
    try:
        at = local.timestamp()
    except (OverflowError, OSError):
        at = -1.0
    if at < 0:
        raise ValueError("use a time between 1970 and 9998")
    return f"{at:.0f}"


class Moment(click.ParamType[str]):
    """The type of options that take a time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the time as the API takes it."""
        try:
            return parse_moment(str(value), datetime.now().astimezone())
        except (ValueError, OverflowError):
            self.fail(f"{value} is not a time; use {FORMS}.", param, ctx)
