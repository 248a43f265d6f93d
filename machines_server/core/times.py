"""Times as the API reads and writes them."""

import re
from datetime import UTC, datetime
from typing import overload

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_FIRST_S = -62_135_596_800  # start of the year 1
LATEST_S = 253_370_764_799
"""The end of the year 9998, the latest time that a request may have; ranges grow by at most a year."""


@overload
def rfc3339(at: float) -> str: ...
@overload
def rfc3339(at: float | None) -> str | None: ...
def rfc3339(at: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC with milliseconds and `Z`; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def checked_time(at: float) -> float:
    """Return epoch seconds that `rfc3339` can format; anything else raises ValueError or TypeError."""
    if not _FIRST_S <= at <= LATEST_S:
        raise ValueError(f"{at} is not a time between the years 1 and 9998")
    return at


def parse_time(text: str, now: float) -> float:
    """Epoch seconds for `now`, `-90s`, `-24h`, `-7d`, `-2w`, epoch seconds or RFC 3339; raises ValueError."""
    if text == "now":
        return now
    if match := re.fullmatch(r"-([0-9]{1,9})([smhdw])", text):
        at = now - int(match[1]) * _UNITS_S[match[2]]
    elif re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        at = float(text)
    elif re.fullmatch(r"[0-9]{13}", text):
        raise ValueError("these look like milliseconds; use epoch seconds")
    else:
        at = _parse_rfc3339(text)
    if not 0 <= at <= LATEST_S:
        raise ValueError("use a time between 1970 and 9998")
    return at


def _parse_rfc3339(text: str) -> float:
    try:
        # An unencoded + in a query string arrives as a space.
        when = datetime.fromisoformat(text.replace(" ", "+").upper())
        if when.tzinfo is not None:
            return when.timestamp()
    except (ValueError, OverflowError):
        pass
    raise ValueError("use RFC 3339 with a zone, epoch seconds, now, or -90s, -24h, -7d, -2w")
