"""docs/api.md matches the classes, and these say when each key is null or absent."""

import re
from typing import Any

import pytest
from msgspec import NODEFAULT, inspect

from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.web.tool_endpoints import MCP_PATH, TOOL_METHODS
from sidecar.payload import Sample
from tools import api_page
from tools.api_routes import ERRORS, ROUTES
from tools.api_types import ApiClass, ApiClasses

ANSWERS = [
    kind
    for route in ROUTES
    for kind in (route.answer if isinstance(route.answer, tuple) else (route.answer,))
    if not isinstance(kind, str)
]
CLASSES = [
    *ApiClasses.of([*ANSWERS, *(error.body for error in ERRORS.values())]).sections,
    *ApiClasses.of([Sample]).sections,
]


def test_the_page_is_up_to_date() -> None:
    assert api_page.PATH.read_text("utf-8") == api_page.text(), "run python -m tools.api_page"


def test_every_route_has_a_section() -> None:
    app = make_app(load_settings({})[0])
    routes = {
        f"{method} {re.sub('<([a-z]+)>', lambda found: found[1].upper(), rule.rule)}"
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/api/", "/health", "/metrics", "/openapi"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    routes |= {f"{methods[0]} {path}" for path, methods in TOOL_METHODS.items() if path != MCP_PATH}
    assert routes == {route.title for route in ROUTES}, "tools/api_routes.py: an ApiRoute for each"


def test_every_error_of_a_route_is_explained() -> None:
    assert {code for route in ROUTES for code in route.errors} <= ERRORS.keys()


def can_be_null(type_: Any) -> bool:
    return isinstance(type_, inspect.UnionType) and any(
        isinstance(one, inspect.NoneType) for one in type_.types
    )


@pytest.mark.parametrize("section", CLASSES, ids=lambda section: section.title)
def test_each_class_says_when_a_key_is_null_or_absent(section: ApiClass) -> None:
    for field in section.fields:
        said = f"{section.docs.get(field.name, '')} {section.about}".lower()
        if can_be_null(field.type):
            assert "null" in said, f"say below {section.title}.{field.name} when it is null"
        if not field.required and field.default is NODEFAULT:
            assert "absent" in said, f"say below {section.title}.{field.name} when it is absent"


def test_the_page_has_the_defaults_and_limits_of_parameters() -> None:
    page = api_page.text()
    assert "unless it is renewed. From 1 to 3,600. Default: 60. |" in page
    assert "| `machine` | list |" in page
    assert "| `limit` | integer |" in page


def test_links_lead_to_sections() -> None:
    page = api_page.text()
    sections = {head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= sections
