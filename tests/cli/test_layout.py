"""Tables, charts and figures, as pure functions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.cli.terminal.figures import duration, gib, number, significant, until
from machines_server.cli.terminal.spans import Span, cut, cut_line, display_width, wrap
from machines_server.cli.terminal.sparkline import BARS, WeightedPoint, sparkline
from machines_server.cli.terminal.table import Column, table

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cf", "Mn", "Me", "Zl", "Zp"]), max_size=30
)
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@given(TEXT, st.integers(1, 40))
def test_a_cut_text_fits_and_is_whole_if_it_can_be(text: str, width: int) -> None:
    assert display_width(cut(text, width)) <= width
    assert cut(text, display_width(text)) == text


@given(TEXT, st.integers(2, 40))
def test_wrapping_loses_no_letter_and_fits(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert max(map(display_width, lines)) <= width
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(1, 60))
def test_a_cut_line_fits(texts: list[str], width: int) -> None:
    line = cut_line([Span(text) for text in texts], width)
    assert sum(display_width(span.text) for span in line) <= width


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=4), st.integers(12, 120))
def test_a_table_fits_any_width(rows: list[tuple[str, str, str, str]], width: int) -> None:
    columns = (Column("A", "cut"), Column("B", right=True), Column("C", "wrap"), Column("D", "below"))
    for line in table(columns, [[Span(cell) for cell in row] for row in rows], width):
        assert sum(display_width(span.text) for span in line) <= width


def text_of(columns: tuple[Column, ...], row: tuple[str, ...], width: int | None) -> list[str]:
    lines = table(columns, [[Span(cell) for cell in row]], width)
    return ["".join(span.text for span in line) for line in lines]


def test_a_table_becomes_narrower_in_steps() -> None:
    columns = (Column("NAME", "cut"), Column("STATE"), Column("WHY", "below"))
    row = ("a-long-name-of-a-machine", "online", "because it answers")
    assert text_of(columns, row, None) == [
        "NAME                      STATE   WHY",
        "a-long-name-of-a-machine  online  because it answers",
    ]
    assert text_of(columns, row, 40) == [
        "NAME                      STATE",
        "a-long-name-of-a-machine  online",
        "    because it answers",
    ]
    assert text_of(columns, row, 20) == [
        "NAME          STATE",
        "a-long-name…  online",
        "    because it",
        "    answers",
    ]
    assert text_of(columns, row, 15) == [
        "NAME   a-long-n",
        "       ame-of-a",
        "       -machine",
        "STATE  online",
        "WHY    because",
        "       it",
        "       answers",
    ]
    assert text_of(columns, ("one", "", ""), None) == ["NAME", "one"]


def test_a_chart_shows_what_its_numbers_say() -> None:
    points = [
        WeightedPoint(0, 10, 1),
        WeightedPoint(1, 30, 3),
        WeightedPoint(5, 80, 2),
        WeightedPoint(9, 45, 1),
    ]
    drawn = sparkline(points, 0, 10, 5)
    assert (drawn.low, drawn.high) == (25, 80)
    assert drawn.chart == f"{BARS[0]} {BARS[-1]} {BARS[2]}"
    alike = [WeightedPoint(0, 12.4, 1), WeightedPoint(5, 12.400001, 1)]
    assert sparkline(alike, 0, 10, 2, printed=significant).chart == BARS[0] * 2
    assert sparkline([WeightedPoint(3, 7, 1)], 0, 10, 2) == (f"{BARS[0]} ", 7, 7)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (61, "1 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "in use"),
        (0.5, "Less than a second from now"),
        (1, "1 second from now"),
        (59, "59 seconds from now"),
        (61, "About a minute from now"),
        (299, "4 minutes from now"),
        (3700, "About an hour from now"),
        (47 * 3600, "47 hours from now"),
        (72 * 3600, "3 days from now"),
        (20 * 86400, "2 weeks from now"),
        (900 * 86400, "2 years from now"),
    ],
)
def test_a_model_leaves_memory_as_ollama_ps_says_it(seconds: float, text: str) -> None:
    assert until((NOW + timedelta(seconds=seconds)).isoformat(), NOW) == text
    assert until(None, NOW) == "Forever"


def test_numbers_have_no_needless_zeros() -> None:
    assert (gib(4.0), gib(3.46), gib(None), number(100, 0), number(0.04)) == (
        "4 GiB",
        "3.5 GiB",
        "-",
        "100",
        "0",
    )
