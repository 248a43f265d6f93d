"""Times as the API writes them."""

from datetime import UTC, datetime


def rfc3339(at: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC with milliseconds and `Z`; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
