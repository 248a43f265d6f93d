"""Plain texts are null, booleans or numbers where YAML 1.2's core schema says so, else texts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from machines_server.inventory.yaml.write import as_yaml
from tests.inventory.texts import GOOD, good, machine

VALUES: dict[str, Any] = {
    **dict.fromkeys(["~", "null", "Null", "NULL", ""]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "-.Inf", ".nan", ".NaN", ".NAN", "61e9540", "-1e999"]),
    **dict.fromkeys(["5", "+5", "005"], 5),
    **dict.fromkeys(["0", "-0", "000"], 0),
    **dict.fromkeys(["-19", "-019"], -19),
    **dict.fromkeys(["15", "0o17", "0o017"], 15),
    **dict.fromkeys(["31", "0x1F", "0x1f", "0x01F"], 31),
    **dict.fromkeys([".5", "+.5", "0.5", "0.50", "5e-1", ".5e0", "5.E-1"], 0.5),
    **dict.fromkeys(["1000.0", "1e3", "1E3", "1e+3", "1.e03", "+1e3"], 1000.0),
    **dict.fromkeys(["24.1", "24.10", "2.41e1"], 24.1),
    **dict.fromkeys(["-0.0", "-.0", "-0."], -0.0),
}
_TEXTS = """
1_234_567 1_000 _1 1_ -_ 1_0.5 1.5_0 1_0e3 0x_ff 0o1_7
0b101 -0x1F +0x1F -0o17 0X1F 0O17 0o8 0o 0x 0xg
1:30 12:30:45 190:20:30.15 1e e3 1e3.5 . ..5 1.2.3 10.0.0.1 --1 +-1 + 2026-1-1 2026-02
yes No on OFF y N nULL tRUE inf .iNF nan +.nan Infinity = 680841e 1,000 5% \u0661\u0662
"""


@pytest.mark.parametrize("written", VALUES)
def test_what_the_core_schema_reads_as_a_value(written: str) -> None:
    assert json.dumps(machine(good("box", more=f"k: {written}\n")).declared["k"]) == json.dumps(
        VALUES[written]
    )


@pytest.mark.parametrize("written", _TEXTS.split())
def test_what_only_looks_like_a_value_is_text(written: str) -> None:
    assert machine(good("box", more=f"k: {written}\n")).declared["k"] == written


@given(st.sampled_from([*VALUES, *_TEXTS.split()]) | st.text("0123456789._-+eExob:", max_size=6))
def test_a_text_is_the_same_text_for_us_and_for_others_when_it_is_written_again(text: str) -> None:
    declared = {**machine(GOOD).declared, "k": text, text: 1}
    written = as_yaml(declared)
    assert machine(written).declared == declared
    assert YAML(typ="safe", pure=True).load(written) == declared
