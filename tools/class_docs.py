"""The docstrings below the fields of a class, from the source, since Python does not keep them."""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Any, get_origin

OURS = ("machines_server", "sidecar", "host_facts")


def class_of(kind: Any) -> type:
    """The class itself of a generic one with parameters."""
    origin: type = get_origin(kind) or kind
    return origin


def about(kind: Any) -> str:
    """The docstring of a class, each paragraph on one line."""
    text = inspect.cleandoc(class_of(kind).__doc__ or "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def field_docs(kind: Any) -> dict[str, str]:
    """The docstrings of its fields by name, including inherited ones, each on one line."""
    found: dict[str, str] = {}
    for base in bases_of(kind):
        found |= field_docs(base)
    for field, below in pairwise(_definition(class_of(kind)).body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str() as text)):
                    found[field.target.id] = " ".join(text.split())
    return found


def bases_of(kind: Any) -> list[type]:
    """Our classes from which it inherits directly; a TypedDict does not keep them itself."""
    known = vars(sys.modules[class_of(kind).__module__])
    names = [ast.unparse(base).partition("[")[0] for base in _definition(class_of(kind)).bases]
    found = [known[name] for name in names if name in known]
    return [base for base in found if getattr(base, "__module__", "").startswith(OURS)]


def _definition(kind: type) -> ast.ClassDef:
    return _definitions(kind.__module__)[kind.__name__]


@cache
def _definitions(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by name."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
