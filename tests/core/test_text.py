"""Text from others cannot control a terminal, a log or a table."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from machines_server.core.text import escape_in_quotes, printable
from tests.core.characters import ACTING


@pytest.mark.parametrize("character", ACTING, ids=ascii)
def test_a_character_that_acts_becomes_a_visible_escape(character: str) -> None:
    escape = printable(f"a{character}b")[1:-1]
    assert escape.isascii()
    assert escape.isprintable()
    assert escape.encode().decode("unicode_escape") == character


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("up\r\nnode9  online", r"up\x0d\x0anode9  online"),
        ("abc\u202edcba", r"abc\u202edcba"),
        ("\udcff", r"\udcff"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_the_escape_says_what_was_there(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text", ["", "łódź", "日本語", "עברית", "a\u00a0b", "👩\u200d💻", r"C:\x1b", "50 % 'x' \"y\""]
)
def test_what_only_shows_itself_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters()) | st.text(st.sampled_from(ACTING)))
def test_whatever_the_text_it_is_printable_once_and_for_all(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & set(ACTING)
    assert printable(shown) == shown
    shown.encode()


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@example({"\x9b\u202e\x7f": ["\x1b", "a\nb", "\u2028"]})
def test_escaped_json_has_the_same_values_and_lines(value: object) -> None:
    plain = json.dumps(value, ensure_ascii=False, indent=1)
    shown = escape_in_quotes(plain)
    assert json.loads(shown) == value
    assert shown.count("\n") == plain.count("\n")
    assert not set(shown) & set(ACTING) - {"\n"}
