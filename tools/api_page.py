"""`python -m tools.api_page` writes docs/api.md anew from the classes of machines_server/contract/."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import NODEFAULT, inspect
from pydantic import BaseModel

from machines_server.contract.lists import REPEATABLE, SEPARATED
from sidecar.payload import Sample
from tools.api_routes import ERRORS, ROUTES, ApiRoute
from tools.api_types import ApiClass, ApiClasses, link
from tools.class_docs import class_of, field_docs

PATH = Path(__file__).parents[1] / "docs" / "api.md"
HUGE = 10**6
"""A limit of this size is not worth mentioning."""
_SEPARATED = ", ".join(f"`{name}`" for name in SEPARATED)
_REPEATED = " and ".join(f"`{name}`" for name in REPEATABLE if name not in SEPARATED)
INTRODUCTION = f"""\
# The API

`python -m tools.api_page` writes this page from `machines_server/contract/`.

- Bodies are JSON in UTF-8. A key is always there unless its type says that it may be absent, and null only if
  its type says so. Unknown is null, never 0.
- Times are RFC 3339 in UTC. Names that end in `_gb` are in GiB (2^30 bytes), rounded to two decimals.
- A list in a query is given by repetition: `tag=a&tag=b`. Those of {_SEPARATED}
  may also be separated by commas: `metric=up,cpu_percent`. Values of {_REPEATED} may contain commas.
  Empty values are ignored. In a body, a list is a JSON list, or a single text.
- An unknown parameter is a 400, and so is one that is no list and is given twice.
- Every error has the keys of {link("ErrorBody")}, some have more.
"""
SIDECAR = """\
## The sidecar's JSON

For those who write their own sidecar: the server requests `GET /metrics` from the host and port in the
machine's file and expects status 200 with this JSON, all of it within `MACHINES_POLL_TIMEOUT_S`. `version`
and `gpu` are required. Any other key may be absent or null, which means unknown; keys that are not listed
here are ignored. An impossible value (101 %, more used than there is) counts as unknown, and
`status_reason` names it. A GPU without `index`, `uuid` or one of the three `vram_` keys counts as unreadable.
"""


def text() -> str:
    """The contents of the page."""
    answers = [kind for route in ROUTES for kind in _classes(route)]
    classes = ApiClasses.of([*answers, *(error.body for error in ERRORS.values())])
    of_sidecar = ApiClasses.of([Sample], prefix="Sidecar ")
    return "\n".join(
        [
            INTRODUCTION,
            "## Routes\n",
            *(_route(route) for route in ROUTES),
            _errors(),
            "## Answers\n",
            *(_section(one, classes) for one in classes.sections),
            SIDECAR,
            *(_section(one, of_sidecar) for one in of_sidecar.sections),
        ]
    )


def _classes(route: ApiRoute) -> Sequence[Any]:
    answer = route.answer
    return answer if isinstance(answer, tuple) else () if isinstance(answer, str) else (answer,)


def _route(route: ApiRoute) -> str:
    lines = [f"### {route.title}", "", route.about, ""]
    for head, kind in (("parameter", route.query), ("key of the body", route.body)):
        if kind:
            lines += [f"| {head} | type | meaning |", "|---|---|---|", *_parameters(kind), ""]
    links = " and ".join(link(class_of(one).__name__) for one in _classes(route)) or route.answer
    if route.is_list:
        links = f"a list of {links}"
    lines.append(f"Answer: {route.status}, {links}.{f' {route.note}' if route.note else ''}")
    if route.errors:
        errors = ", ".join(f"{ERRORS[code].status} `{code}`" for code in route.errors)
        lines += ["", f"Errors: {errors}."]
    return "\n".join([*lines, ""])


def _errors() -> str:
    lines = ["## Errors", "", "Those from `not_found` on may be the answer to any request.", ""]
    lines += ["| code | status | class | meaning |", "|---|---|---|---|"]
    for code, error in ERRORS.items():
        lines.append(_row(f"`{code}`", str(error.status), link(error.body.__name__), error.about))
    return "\n".join([*lines, ""])


def _parameters(kind: type) -> Iterator[str]:
    """The rows of a class of parameters."""
    docs = field_docs(kind)
    if issubclass(kind, BaseModel):
        for name, schema in kind.model_json_schema()["properties"].items():
            yield _row(f"`{name}`", _json_type(schema), docs[name] + _limits(schema))
        return
    described: Any = inspect.type_info(kind)
    for field in described.fields:
        extra = getattr(field.type, "extra", None) or {}
        is_list = isinstance(field.type, inspect.VarTupleType)
        yield _row(
            f"`{field.encode_name}`", "list" if is_list else extra.get("type", "text"), docs[field.name]
        )


_JSON_TYPES = {"string": "text", "array": "list", "boolean": "true or false"}


def _json_type(schema: dict[str, Any]) -> str:
    parts = schema.get("anyOf", [schema])
    return " or ".join(_JSON_TYPES.get(one["type"], one["type"]) for one in parts if one["type"] != "null")


def _limits(schema: dict[str, Any]) -> str:
    """The limits and the default of a number."""
    (part, *_) = schema.get("anyOf", [schema])
    low, high, default = part.get("minimum"), part.get("maximum"), schema.get("default")
    if high is None:
        return ""
    limits = f" From {low:g} to {high:,g}." if high < HUGE else ""
    return limits + (f" Default: {default:g}." if default else "")


def _section(one: ApiClass, classes: ApiClasses) -> str:
    lines = [f"### {one.title}", "", one.about, ""]
    if one.variants:
        lines += ["| `type` | meaning | keys |", "|---|---|---|"]
        lines += (_row(f"`{tag}`", meaning, keys) for tag, meaning, keys in one.variants)
        return "\n".join([*lines, ""])
    if one.base:
        lines += [f"All keys of {one.base}" + (", and:" if one.fields else "."), ""]
    if one.fields:
        lines += ["| key | type | unit | meaning |", "|---|---|---|---|"]
    for field in one.fields:
        shown = classes.shown(field.type)
        may_be_absent = not field.required and field.default is NODEFAULT
        type_ = f"{shown.text}, may be absent" if may_be_absent else shown.text
        lines.append(
            _row(f"`{field.encode_name}`", type_, shown.unit, one.docs.get(field.name) or shown.about)
        )
    return "\n".join([*lines, ""])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
