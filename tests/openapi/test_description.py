"""openapi.json is up to date, describes every route, and is a valid document."""

import re

from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.web.authentication import OPEN_PATHS
from machines_server.web.tool_endpoints import MCP_PATH, TOOL_METHODS
from tests.openapi.description import DESCRIPTION
from tests.readme import page, rows
from tools import openapi

DOCUMENT = DESCRIPTION.document


def test_the_document_is_up_to_date() -> None:
    assert openapi.PATH.read_text("utf-8") == openapi.text(), "run python -m tools.openapi"


def test_every_route_and_method_is_described_or_a_page() -> None:
    app = make_app(load_settings({})[0])
    routes = {
        f"{method} {re.sub('<(?:path:)?([a-z]+)>', lambda found: found[1].upper(), rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    routes |= {f"{methods[0]} {path}" for path, methods in TOOL_METHODS.items() if path != MCP_PATH}
    described = {
        re.sub("{([a-z]+)}", lambda found: found[1].upper(), one) for one in DESCRIPTION.operations()
    }
    wanted = described | set(rows("page.md"))
    assert routes == wanted, f"change tools/api_routes.py and run python -m tools.openapi: {routes ^ wanted}"


def test_names_of_operations_are_unique() -> None:
    names = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))


def test_every_schema_is_valid_and_described() -> None:
    from jsonschema import Draft202012Validator  # as in description.py

    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema.get("description"), name


def test_every_reference_leads_somewhere() -> None:
    for found in set(re.findall(r'"\$ref": "#/([^"]+)"', openapi.PATH.read_text("utf-8"))):
        part = DOCUMENT
        for key in found.split("/"):
            part = part[key]


def test_what_needs_no_signature_is_what_is_answered_without_one() -> None:
    described = {
        path.encode() for path, item in DOCUMENT["paths"].items() if item.get("get", {}).get("security") == []
    }
    assert described <= OPEN_PATHS
    assert OPEN_PATHS - described <= {b"/docs", b"/metrics"}


def test_the_paths_that_the_docs_show_are_there() -> None:
    shown = re.findall("^/api/leases.*$", page("openapi.md"), re.MULTILINE)
    assert shown == [path for path in DOCUMENT["paths"] if "leases" in path]
