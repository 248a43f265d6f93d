"""Tabs are white space as YAML 1.2 has it, and never indentation."""

from typing import Any

import pytest
from ruamel.yaml import YAML

from machines_server.inventory.yaml.write import as_yaml
from tests.inventory.texts import GOOD, error, good, machine

READ: dict[str, Any] = {
    "k:\tv\n": "v",
    "k: \t v\n": "v",
    "k\t: v\n": "v",
    '"k"\t:\tv\n': "v",
    "k: v\t# why\n": "v",
    "k: v\t \n": "v",
    "k: 24\t# why\n": 24,
    "k: b\tc\n": "b\tc",
    "k: v\tc#d\n": "v\tc#d",
    "k: v\n\t\n": "v",
    "k: v\n \t \n": "v",
    "k: v\n\t# why\n": "v",
    "k: v\n\t": "v",
    "k:\t\n": None,
    "k:\n \tv\n": "v",
    "k: v\n \tw\n": "v w",
    "k: v\r\n\t\r\n": "v",
    "k: v\n\n\t\n  w\n": "v\n\nw",
    "k:\t\n - v\t\n": ["v"],
    "k:\n -\tv\n -\t-1\n": ["v", -1],
    "k:\n - v\n  \tw\n": ["v w"],
    "k: [1,\t2\t,\n\t3\t]\t# why\n": [1, 2, 3],
    "k: {a:\tb\t,\tc : d}\n": {"a": "b", "c": "d"},
    "k: |\t# why\n  v\n  \tw\n": "v\n\tw\n",
    "k: >-\t\n  v\n  w\n": "v w",
    "k: |\n  v\n\t\n": "v\n",
    "k: &a\tv\n": "v",
    "k: !!str\t1\n": "1",
    "k: 'v\t'\t\n": "v\t",
    'k: "v\n  \tw\\\tx"\n': "v w\tx",
    "? k\n:\tv\n": "v",
}
REFUSED = {
    "k:\n\tv\n": (8, 1),
    "\tk: v\n": (7, 1),
    "k: v\n\tw\n": (8, 1),
    "k:\n\t- v\n": (8, 1),
    "k:\n  a: 1\n  \tb: 2\n": (9, 3),
    "k:\n  a: v\n  \tb: 2\n": (9, 3),
    "k:\n  a: v\n\tb: 2\n": (9, 1),
    "k:\n\ta:\n\t\tb: c\n": (8, 1),
    "k:\n -\ta: b\n": (8, 3),
    "k:\n -\t- b\n": (8, 3),
    "? k\n:\ta: b\n": (8, 2),
    "?\tk: v\n": (7, 2),
    "k: &a\n\tb: c\n": (8, 1),
}


@pytest.mark.parametrize("text", READ)
def test_a_tab_that_separates_is_read(text: str) -> None:
    assert machine(good("box", more=text)).declared["k"] == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_a_tab_that_indents_is_refused_where_it_stands(text: str) -> None:
    problem = error(good("box", more=text))
    assert (problem.line, problem.column) == REFUSED[text]
    assert problem.message == "this line is indented with a tab; expected spaces"


def test_a_whole_file_with_tabs_wherever_they_may_stand() -> None:
    text = "%YAML\t1.2\t# so it is\n---\t\n" + GOOD.replace(": ", ":\t").replace("\n", "\t# here\n\t\n")
    assert machine(text).declared == machine(GOOD).declared


def test_json_that_is_indented_with_tabs_is_read() -> None:
    text = (
        '{\n\t"name": "box",\n\t"role":\t"r",\n\t"hardware": {},\n\t"network": {\n\t\t"hostname": "h"\n\t},\n'
    )
    assert machine(text + '\t"models": [\n\t\t"m"\n\t]\n}\n').models == ("m",)


def test_what_follows_a_tab_is_placed_where_it_stands() -> None:
    problem = error(good("box", more="a:\t[1,\t2]\nb: {c:\td,\tc:\te}\n"))
    assert (problem.line, problem.column, problem.key) == (8, 11, "b.c")


@pytest.mark.parametrize("text", [text for text in READ if "\t" in str(READ[text])])
def test_a_tab_within_a_text_survives_being_written_again(text: str) -> None:
    declared = machine(good("box", more=text)).declared
    assert machine(as_yaml(declared)).declared == declared
    assert YAML(typ="safe", pure=True).load(as_yaml(declared)) == declared


@pytest.mark.parametrize(
    "text", ["a" * 200 + "\tb " + "c" * 200, "a" * 109 + " \t " + "b" * 50, "a\tb " * 100]
)
def test_a_long_text_with_tabs_is_written_as_it_is(text: str) -> None:
    assert YAML(typ="safe", pure=True).load(as_yaml({"k": text})) == {"k": text}
