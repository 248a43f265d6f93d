"""Free keys come back as they were written: same keys, same order, same values."""

import json
from io import StringIO
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.reader import Reader

from machines_server.inventory.schema import MachineFile
from tests.inventory.texts import GOOD, error, good, machine, warnings

_KNOWN = {*MachineFile.model_fields, "<<"}
_text = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\x85\u2028\u2029\ufeff\ue000:#-"), max_size=20
)
_scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text
_json = st.recursive(
    _scalar, lambda part: st.lists(part, max_size=4) | st.dictionaries(_text, part, max_size=4), max_leaves=12
)
_free = st.dictionaries(_text.filter(lambda key: key not in _KNOWN), _json, max_size=5)


def _as_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(_free)
def test_anything_json_can_hold_comes_back_equal_and_in_order(free: dict[str, Any]) -> None:
    yaml = YAML()
    yaml.width = 10_000
    out = StringIO()
    yaml.dump({**machine(GOOD).declared, **free}, out)
    assume(not set(out.getvalue()) & set("\x85\u2028\u2029"))  # ruamel.yaml writes these as YAML 1.1 did
    assert _as_json(machine(out.getvalue()).declared) == _as_json({**machine(GOOD).declared, **free})


@settings(max_examples=150, deadline=None)
@given(_free, st.booleans())
def test_a_machine_file_may_be_json(free: dict[str, Any], is_ascii: bool) -> None:
    declared = {**machine(GOOD).declared, **free}
    text = json.dumps(declared, ensure_ascii=is_ascii)
    assume(not Reader.NON_PRINTABLE.search(text))
    assert _as_json(machine(text).declared) == _as_json(declared)


@pytest.mark.parametrize(
    ("written", "served"),
    [
        ("2026-11-23", "2026-11-23"),
        ("2026-11-23T17:00:00Z", "2026-11-23T17:00:00Z"),
        ("2026-11-23T17:00:00.123456789+01:00", "2026-11-23T17:00:00.123456789+01:00"),
        ("2026-11-23 17:00:00", "2026-11-23T17:00:00"),
        ("2026-11-23 7:00:00.5 -5", "2026-11-23T07:00:00.500000-05:00"),
        ("2026-02-30", "2026-02-30"),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("-0.0", -0.0),
        ("1e3", 1000.0),
        ("0.1", 0.1),
        ("0x1F", 31),
        ("!!binary aGVsbG8=", "aGVsbG8="),
        ("!!set {b, a, 1}", ["b", "a", 1]),
        ("!!omap [z: 1, a: 2]", {"z": 1, "a": 2}),
        ("!!pairs [z: 1, z: 2]", [["z", 1], ["z", 2]]),
        ("!!str 123", "123"),
        ("!!float 1", 1.0),
        ("-_", "-_"),
        ("=", "="),
        ("a\x85b \u2028  d", "a\x85b \u2028  d"),
        ("'\u2028\\ue000'", "\u2028\\ue000"),
        ('"\x85\\U000F0000\\udb80\\udc01"', "\x85\U000f0000\U000f0001"),
        ('"\\ud83d\\ude00"', "😀"),
        ("~", None),
        ("", None),
        ("{true: 1, null: 2, 1: 3, 1.5: 4, 2026-11-23: 5, .nan: 6, no: 7}", None),
    ],
)
def test_what_json_has_no_form_for(written: str, served: object) -> None:
    if written.startswith("{true"):
        served = {"true": 1, "null": 2, "1": 3, "1.5": 4, "2026-11-23": 5, ".nan": 6, "no": 7}
    box = machine(good("box", more=f"k: {written}\n"))
    assert _as_json(box.declared["k"]) == _as_json(served)
    assert json.loads(box.declared_json["k"]) == served


def test_what_is_not_a_finite_number_is_null_with_a_warning() -> None:
    text = good("box", more="k:\n  a: [1.5, .nan]\n  b: -.inf\n  c: 1e999\n")
    assert machine(text).declared["k"] == {"a": [1.5, None], "b": None, "c": None}
    assert [(found.key, found.line, found.severity) for found in warnings(text)] == [
        ("k.a[1]", 8, "warning"),
        ("k.b", 9, "warning"),
        ("k.c", 10, "warning"),
    ]


def test_aliases_and_merges_are_replaced_by_what_they_stand_for() -> None:
    more = "base: &b {x: 1, y: 2}\nalso: *b\nown: {y: 3, <<: *b, z: 4}\nmany: {<<: [{x: 9}, *b], w: 5}\n"
    declared = machine(good("box", more=more)).declared
    assert declared["also"] == {"x": 1, "y": 2}
    assert _as_json(declared["own"]) == _as_json({"y": 3, "x": 1, "z": 4})
    assert _as_json(declared["many"]) == _as_json({"x": 9, "y": 2, "w": 5})


def test_a_rule_broken_behind_an_alias_is_placed_where_the_alias_stands() -> None:
    text = "n: &n {hostname: box.lan, port: 0}\n" + GOOD.replace(
        "network:\n  hostname: box.lan", "network: *n"
    )
    assert (error(text).line, error(text).key) == (5, "network.port")
