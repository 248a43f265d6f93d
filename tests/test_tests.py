"""The tests use only public interfaces and shared builders."""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
OURS = (
    "machines_server",
    "sidecar",
    "host_facts",
    "log_limit",
    "request_signing",
    "tls_files",
    "bench",
    "tools",
    "tests",
)
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
"""What a named tuple has in public."""

Rule = Callable[[ast.Module], list[int]]
"""Gives the lines of a module that break it."""


@cache
def modules() -> list[tuple[str, ast.Module]]:
    paths = sorted(TESTS.rglob("*.py"))
    return [(str(path.relative_to(TESTS)), ast.parse(path.read_text())) for path in paths]


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and the whole name of everything that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imported_tests(tree: ast.Module) -> list[int]:
    """Lines that import a test module."""
    return [line for line, name in imported(tree) if ".test_" in name]


def private_reads(tree: ast.Module) -> list[int]:
    """Lines that read or import a private name of ours; of others it is for them to say what is private."""
    _, others = bound(tree)
    read = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and _is_private(node.attr)
        and node.attr not in NAMED_TUPLE
        and _root(node.value) not in {"self", "cls", *others}
    ]
    return read + [line for line, name in imported(tree) if _is_ours(name) and _is_private(name)]


def bound(tree: ast.Module) -> tuple[set[str], set[str]]:
    """The names that are bound by importing from us, and from others."""
    ours, others = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                module = node.module or "" if isinstance(node, ast.ImportFrom) else alias.name
                names = ours if _is_ours(module) else others
                names.add(alias.asname or alias.name.partition(".")[0])
    return ours, others


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS


def _is_private(name: str) -> bool:
    """Whether the last part of a dotted name is."""
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__")


def patches(tree: ast.Module) -> list[int]:
    """Lines that replace something of ours, or use unittest.mock."""
    ours, _ = bound(tree)
    replaced = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("setattr", "delattr", "setitem", "delitem")
        and _root(node.args[0]) in {*OURS, *ours}
    ]
    return replaced + [line for line, name in imported(tree) if name.startswith("unittest.mock")]


def _root(target: ast.expr) -> str:
    """The first name of what is read or replaced, which may be written as a dotted text."""
    text = target.value if isinstance(target, ast.Constant) else ast.unparse(target)
    return str(text).partition(".")[0]


@pytest.mark.parametrize("rule", [imported_tests, private_reads, patches])
def test_every_test_keeps_the_rule(rule: Rule) -> None:
    assert [f"{name}:{line}" for name, tree in modules() for line in rule(tree)] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (imported_tests, "from tests.store.test_samples import machine"),
        (imported_tests, "import tests.test_docs"),
        (private_reads, "assert not thread._pending"),
        (private_reads, "from machines_server.store.damage import _mark"),
        (patches, "from unittest.mock import patch"),
        (patches, "monkeypatch.setattr('machines_server.store.damage.EVERY_S', 1)"),
        (patches, "from machines_server import store\nmonkeypatch.setattr(store, 'EVERY_S', 1)"),
        (patches, "import machines_server.store\nmonkeypatch.delattr(machines_server.store, 'EVERY_S')"),
    ],
)
def test_what_a_rule_forbids_is_found(rule: Rule, text: str) -> None:
    assert rule(ast.parse(text)) != []
