"""Times as people type them: one table, and the days on which clocks are changed."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from machines_server.cli.moments import parse_moment
from tests.running import command

NOW = datetime(2026, 11, 29, 14, 30, 15, tzinfo=UTC)
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of a POSIX rule, so that no data about zones is needed."""
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("03:00", "2026-11-29T02:00:00+00:00"),
        ("3:00", "2026-11-29T02:00:00+00:00"),
        ("15:30:15", "2026-11-29T14:30:15+00:00"),
        ("15:30:16", "2026-11-28T14:30:16+00:00"),
        ("23:59", "2026-11-28T22:59:00+00:00"),
        ("today", "2026-11-28T23:00:00+00:00"),
        ("yesterday", "2026-11-27T23:00:00+00:00"),
        ("today 03:00", "2026-11-29T02:00:00+00:00"),
        ("yesterday 03:00", "2026-11-28T02:00:00+00:00"),
        ("2026-11-28", "2026-11-27T23:00:00+00:00"),
        ("2026-11-28 03:00", "2026-11-28T02:00:00+00:00"),
        ("2026-11-28T03:00", "2026-11-28T02:00:00+00:00"),
        ("2026-11-28 03:00:07", "2026-11-28T02:00:07+00:00"),
        (" 2026-07-01  12:00 ", "2026-07-01T10:00:00+00:00"),
        # The clocks skip 02:00 to 03:00, and have 02:00 to 03:00 twice.
        ("2026-03-29 01:59", "2026-03-29T00:59:00+00:00"),
        ("2026-03-29 02:30", "2026-03-29T01:30:00+00:00"),
        ("2026-03-29 03:00", "2026-03-29T01:00:00+00:00"),
        ("2026-10-25 02:30", "2026-10-25T00:30:00+00:00"),
        ("2026-10-25 03:00", "2026-10-25T02:00:00+00:00"),
    ],
)
def test_local_times_become_epoch_seconds(text: str, meant: str) -> None:
    at = datetime.fromtimestamp(float(parse_moment(text, NOW)), UTC)
    assert at.isoformat() == meant


@pytest.mark.parametrize("minute", ["2026-03-29T12:00", "2026-10-25T12:00"])
def test_yesterday_is_the_day_before_also_if_it_had_23_or_25_hours(minute: str) -> None:
    now = datetime.fromisoformat(f"{minute}+00:00")
    first = datetime.fromtimestamp(float(parse_moment("yesterday", now))).astimezone()
    assert (first.day, first.hour) == (now.day - 1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "now",
        "-90s",
        "-24h",
        "-7d",
        "-2w",
        "1764426615",
        "1764426615.5",
        "2026-11-28T03:00:00Z",
        "2026-11-28T03:00+01:00",
    ],
)
def test_what_the_api_knows_stays_as_it_is(text: str) -> None:
    assert parse_moment(text, NOW) == text


def test_a_year_is_365_days() -> None:
    assert parse_moment("-1y", NOW) == "-365d"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noon",
        "25:00",
        "03:60",
        "2026-13-01",
        "2026-02-30",
        "tomorrow 25:00",
        "-5",
        "-1M",
        "-9999y",
        "03:00 yesterday",
        "1969-01-01",
        "0001-01-01 00:00",
        "\uff12\uff10\uff12\uff16-11-28",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_moment(text, NOW)


def test_a_wrong_time_is_wrong_usage_and_says_what_is_right() -> None:
    done = command("events", "--from", "noon")
    assert done.returncode == 2
    assert "noon is not a time; use now, today, yesterday, 03:00" in done.stderr
