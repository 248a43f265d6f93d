"""Times as people write them."""

import pytest

from machines_server.core.times import parse_time, rfc3339


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", 1e9),
        ("-90s", 1e9 - 90),
        ("-5m", 1e9 - 300),
        ("-24h", 1e9 - 86_400),
        ("-7d", 1e9 - 7 * 86_400),
        ("0", 0),
        ("1700000000.5", 1_700_000_000.5),
        ("2026-11-23T17:00:00Z", 1_795_453_200),
        ("2026-11-23t17:00:00z", 1_795_453_200),
        ("2026-11-23T18:00:00+01:00", 1_795_453_200),
        ("2026-11-23T18:00:00 01:00", 1_795_453_200),  # a + that a query made a space
    ],
)
def test_a_time_can_be_written_in_several_ways(text: str, at: float) -> None:
    assert parse_time(text, 1e9) == at


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "-1y2", "2026-11-23T17:00:00", "-99999999d", "99999999999999", "1e5", "NaN", "٣"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="use"):
        parse_time(text, 1e9)


def test_a_time_is_written_in_utc() -> None:
    assert rfc3339(1_795_453_200.123) == "2026-11-23T17:00:00.123Z"
    assert rfc3339(None) is None
