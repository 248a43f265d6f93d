"""One name means one thing: a constant or an exception that two modules define is the same in both."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("machines_server", "sidecar", "host_facts", "log_limit", "request_signing", "tls_files")
CONSTANT = re.compile("_?[A-Z][A-Z0-9_]*")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The constants of a module, each with its value as it is written."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            yield from parts(target, node.value)


def parts(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    """The names of a target, each with its part of the value."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its_value in zip(target.elts, value.elts, strict=True):
            yield from parts(one, its_value)
    else:
        for name in ast.walk(target):
            if isinstance(name, ast.Name) and CONSTANT.fullmatch(name.id):
                yield name.id, ast.unparse(value)


def test_no_constant_has_two_values() -> None:
    values: dict[str, dict[str, list[Path]]] = {}
    for path in FILES:
        for name, value in constants(ast.parse(path.read_text())):
            values.setdefault(name, {}).setdefault(value, []).append(path.relative_to(ROOT))
    several = {name: found for name, found in values.items() if len(found) > 1}
    assert not several, f"give constants with different values different names: {several}"


def test_no_two_exceptions_share_a_name() -> None:
    known: dict[str, Path] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Error", "Lost", "Request")):
                assert node.name not in known, f"{node.name} is in {known[node.name]} and in {path}"
                known[node.name] = path
