"""Every mistake is named with its place, what is wrong and what is expected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machines_server.inventory.limits import MAX_MACHINE_FILE_BYTES, MAX_PROBLEMS_OF_A_FILE, MAX_VALUES
from machines_server.inventory.machine_file import parse_machine
from tests.inventory.texts import GOOD, error, errors, good, machine


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "key", "says"),
    [
        ("name: box", "name: 123", 1, 1, "name", "put it in quotes"),
        ("name: box", "name: -box", 1, 1, "name", 'found the string "-box"; expected 1 to 63 letters'),
        ("name: box", "name: " + "x" * 64, 1, 1, "name", "1 to 63"),
        ("name: box", 'name: "box\\n"', 1, 1, "name", "1 to 63"),
        ("name: box", "name:", 1, 1, "name", "found nothing"),
        ("name: box\n", "", 1, 1, "name", "missing; expected 1 to 63 letters"),
        ("gpu-host", "''", 2, 1, "role", "non-empty"),
        ("gpu-host", "true", 2, 1, "role", "put it in quotes"),
        ("{}", "[]", 3, 1, "hardware", "found a list; expected a mapping"),
        ("{}", "\n  gpu: none", 4, 3, "hardware.gpu", "expected a list of mappings"),
        ("{}", "\n  gpu:", 4, 3, "hardware.gpu", "found nothing"),
        ("{}", "\n  gpu:\n  - {}\n  - 24GB", 6, 5, "hardware.gpu[1]", "expected a mapping"),
        ("network:\n  hostname: box.lan\n", "", 1, 1, "network.hostname", "missing"),
        ("hostname: box.lan", "port: 1", 4, 1, "network.hostname", "missing"),
        ("network:\n  hostname: box.lan", "network: box.lan", 4, 1, "network", "expected a mapping"),
        ("box.lan", "7", 5, 3, "network.hostname", "put it in quotes"),
        ("box.lan", "http://box.lan", 5, 3, "network.hostname", "remove the scheme"),
        ("box.lan", "box.lan:11434", 5, 3, "network.hostname", "put the port under network.port"),
        ("box.lan", "http://box:1/x", 5, 3, "network.hostname", "put the port under network.port"),
        ("box.lan", "box.lan/api", 5, 3, "network.hostname", "remove the path"),
        ("box.lan", "box lan", 5, 3, "network.hostname", "remove the space"),
        ("box.lan", "'[::1]'", 5, 3, "network.hostname", "without brackets"),
        ("box.lan", "me@box", 5, 3, "network.hostname", "remove the user"),
        ("box.lan", "fe80::1%eth0", 5, 3, "network.hostname", "remove the zone"),
        ("box.lan", "bücher.lan", 5, 3, "network.hostname", "xn--"),
        ("box.lan", "192.168.1.300", 5, 3, "network.hostname", "IPv4"),
        ("box.lan", "'127.1'", 5, 3, "network.hostname", "IPv4"),
        ("box.lan", "''", 5, 3, "network.hostname", 'found the string ""'),
        ("box.lan", "x" * 300, 5, 3, "network.hostname", "a host name or an IP address"),
        ("box.lan", 'box.lan\n  port: "11434"', 6, 3, "network.port", "remove the quotes"),
        ("box.lan", "box.lan\n  port: 0", 6, 3, "network.port", "from 1 to 65535"),
        ("box.lan", "box.lan\n  port: 65536", 6, 3, "network.port", "from 1 to 65535"),
        ("box.lan", "box.lan\n  port: true", 6, 3, "network.port", "found true"),
        ("box.lan", "box.lan\n  port: 80.0", 6, 3, "network.port", "whole number"),
        ("box.lan", "box.lan\n  port:", 6, 3, "network.port", "found nothing"),
        ("box.lan", "box.lan\n  sidecar_port: -1", 6, 3, "network.sidecar_port", "from 1 to 65535"),
        ("box.lan", "box.lan\n  ollama: no", 6, 3, "network.ollama", "expected true, or false"),
        ("box.lan", "box.lan\n  sidecar: 'false'", 6, 3, "network.sidecar", "remove the quotes"),
        ("models: []", "models:", 6, 1, "models", "expected a list"),
        ("models: []", "models: phi3", 6, 1, "models", "expected a list"),
        ("models: []", "models:\n- a\n- 7", 8, 3, "models[1]", "put it in quotes"),
        ("models: []", "models: [a, {b: c}]", 6, 13, "models[1]", "found a mapping"),
        ("models: []\n", "", 1, 1, "models", "missing; expected a list"),
    ],
)
def test_a_rule_that_is_broken(old: str, new: str, line: int, column: int, key: str, says: str) -> None:
    assert old in GOOD
    problem = error(GOOD.replace(old, new, 1))
    assert (problem.line, problem.column, problem.key) == (line, column, key)
    assert says in problem.message
    assert "expected" in problem.message


@pytest.mark.parametrize(
    ("more", "line", "column", "key", "says"),
    [
        ("a: b: c\n", 7, 5, None, "quotes around the value"),
        ("\ta: b\n", 7, 1, None, "spaces"),
        ("a: 'x\n", 8, 1, None, "closing quote"),
        ("a: [1, 2\n", 8, 1, None, "expected"),
        ("a: *b\n", 7, 4, None, "alias"),
        ("a: @b\n", 7, 4, None, "expected"),
        ("---\nname: two\n", 7, 1, None, "one machine in each file"),
        ("a: {x: 1, x: 2}\n", 7, 11, "a.x", "repeated, first in line 7"),
        ("name: box\n", 7, 1, "name", "repeated, first in line 1"),
        ("a: {1: x, '1': y}\n", 7, 11, "a.1", "one key in JSON"),
        ("a: {true: x, 'true': y}\n", 7, 14, "a.true", "one key in JSON"),
        ("a: !!set {x, x}\n", 7, 14, "a.x", "repeated"),
        ("a: !!omap [x: 1, x: 2]\n", 7, 1, "a", "twice"),
        ("a: !!pairs [x]\n", 7, 1, "a", "one key in each item"),
        ("? [a, b]\n: c\n", 7, 3, None, "used as a key"),
        ("a: {? {b: c} : d}\n", 7, 7, "a", "used as a key"),
        ("a: !vault b\n", 7, 1, "a", "the tag !vault is unknown"),
        ("a: !vault [b]\n", 7, 1, "a", "the tag !vault is unknown"),
        ("a: !!python/object:os.system {}\n", 7, 1, "a", "!!python/object:os.system is unknown"),
        ("a: !!int b\n", 7, 1, "a", "b does not fit the tag !!int"),
        ("a: !!str [b]\n", 7, 1, "a", "the tag !!str is unknown"),
        ('a: ["\\ud800"]\n', 7, 5, "a[0]", "half of a surrogate pair"),
        ('"\\ud800": a\n', 7, 1, None, "half of a surrogate pair"),
        ('a: "\\UFFFFFFFF"\n', 7, 5, None, r"\UFFFFFFFF is no character"),
        ('a: "\\U00110000"\n', 7, 5, None, r"\U00110000 is no character"),
        ("a: &a [1, *a]\n", 7, 1, "a[1]", "no cycle"),
        ("a: &a {b: {c: *a}}\n", 7, 12, "a.b.c", "no cycle"),
        ("a: {<<: 1}\n", 7, 5, "a.<<", "the value of << is not a mapping"),
        ("a: {<<: [*b]}\n", 7, 10, None, "alias"),
        ("a: " + "[" * 500, 7, None, None, "nested too deep"),
        ("a: " + "9" * 5000, 7, 1, "a", "5,000 digits"),
        ("a: \x07\n", 7, 4, None, "U+0007"),
    ],
)
def test_free_keys_that_json_cannot_hold(
    more: str, line: int, column: int | None, key: str | None, says: str
) -> None:
    problem = error(good("box", more=more))
    assert problem.line == line
    assert column is None or problem.column == column
    assert problem.key == key
    assert says in problem.message
    assert "expected" in problem.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"# nothing yet\n", "empty"),
        (b"---\n...\n", "empty"),
        (b"- a\n", "not a mapping"),
        (b"just words\n", "not a mapping"),
        (GOOD.encode() + b"a: \xff\n", "UTF-8"),
        (b"\xff\xfea", "UTF-16"),
        (b"#" * (MAX_MACHINE_FILE_BYTES + 1), "the file has 65,537 bytes; expected at most 65,536"),
        (b"%YAML 1.1\n---\n" + GOOD.encode(), "YAML 1.1"),
        (b"%YAML 1.3\n---\n" + GOOD.encode(), "YAML 1.3"),
        (b"%YAML 7.0\n---\n" + GOOD.encode(), "expected"),
    ],
)
def test_what_is_no_machine_file_at_all(content: bytes, says: str) -> None:
    assert says in error(content).message


def test_the_first_value_too_many_is_named() -> None:
    text = good("box", more="x:\n")
    others = 15
    """6 keys and 7 values of a good file, the key x and its list."""
    items = MAX_VALUES - others
    machine(text + "- 1\n" * items)
    problem = error(text + "- 1\n" * (items + 1))
    assert (problem.line, problem.column) == (7 + items + 1, 3)
    assert "expected at most 12,000" in problem.message


def test_all_errors_of_a_file_are_told_in_their_order() -> None:
    text = "name: 1\nhardware: 2\nnetwork: {hostname: 'a:1', port: x}\nmodels: [3]\nx: !vault 4\nx: 5\n"
    assert [(problem.line, problem.key) for problem in errors(text)] == [
        (1, "name"),
        (1, "role"),
        (2, "hardware"),
        (3, "network.hostname"),
        (3, "network.port"),
        (4, "models[0]"),
        (5, "x"),
        (6, "x"),
    ]


def test_one_mistake_is_told_once() -> None:
    assert error(GOOD.replace("name: box", "name: !vault box", 1)).key == "name"


def test_of_a_thousand_errors_the_first_are_named_and_the_rest_counted() -> None:
    found = errors(GOOD.replace("[]", str(list(range(1000)))))
    assert len(found) == MAX_PROBLEMS_OF_A_FILE + 1
    assert "900 more" in found[-1].message


def test_a_number_that_is_not_finite_is_still_no_name() -> None:
    assert [problem.severity for problem in errors(GOOD.replace("name: box", "name: .nan", 1))] == [
        "warning",
        "error",
    ]


def _laughs(first: str, again: str, times: int) -> str:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n + 1}: &a{n + 1} {again.replace('@', f'*a{n}')}" for n in range(times)]
    return good("box", more="\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        _laughs("[lol]", "[@, @, @, @, @, @, @, @, @, @]", 20),
        _laughs("{k: lol}", "{a: @, b: @}", 90),
        _laughs("{k: lol}", "{<<: [@, @, @, @, @, @, @, @], x: @}", 40),
        good("box", more=f"a: &a {'x' * 60_000}\nb: [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"),
        _laughs("x", "[@, @, @, @, @, @, @, @, @]", 5),
        good("box", more=f"a: &a {'x' * 60_000}\nb: {{<<: [" + "{k: *a}, " * 50 + "]}\n"),
    ],
    ids=["lists", "mappings", "merges", "text", "small", "merged text"],
)
def test_an_alias_bomb_is_refused_before_it_goes_off(text: str) -> None:
    assert "aliases repeat too much" in error(text).message


def test_aliases_do_not_nest_deeper_than_brackets() -> None:
    assert "nested too deep" in error(_laughs("[x]", "[@]", 500)).message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_raise(content: bytes) -> None:
    assert parse_machine(content, "box.yaml").machine is None


_PIECES = (
    "- |: |\n|  |[|]|{|}|, |&a |*a|!!set |!!int |!!omap |!!binary |!!float |!!timestamp |!x |"
    "<<: |? |>|'|\"|\\ud800|0x|.nan|-|=|~|true|2026-13-01|1e999|\t|\r|%YAML 1.1\n|%TAG ! x\n|---|...|"
    "#|@|`|\xe9|\ufeff|\u2028|_|!<x>|!%ff "
)


@settings(max_examples=700, deadline=None)
@given(
    st.integers(0, len(GOOD)), st.integers(0, 4), st.lists(st.sampled_from(_PIECES.split("|")), max_size=12)
)
def test_random_yaml_never_raises_and_a_refusal_has_its_sentence(
    at: int, cut: int, pieces: list[str]
) -> None:
    text = GOOD[:at] + "".join(pieces) + GOOD[at + cut :]
    parsed = parse_machine(text.encode(), "box.yaml")
    has_error = any(problem.severity == "error" for problem in parsed.problems)
    assert has_error is (parsed.machine is None)
    for problem in parsed.problems:
        assert "\n" not in str(problem)
        assert str(problem).encode()
