"""`python -m tools.openapi` writes machines_server/contract/openapi.json from the classes of contract/."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machines_server.contract.tools import BriefMachines
from machines_server.services.routing import MAX_KEY_CHARACTERS
from machines_server.web.messages import SESSION_COOKIE
from tools.api_routes import ERRORS, ROUTES, ApiError, ApiRoute
from tools.class_docs import class_of
from tools.openapi_schemas import REF, Schema, answer_schemas, body_schema, query_parameters

PATH = Path(__file__).parents[1] / "machines_server" / "contract" / "openapi.json"
JSON = "application/json"
DESCRIPTION = """\
Which of your machines has that model in memory, and how much VRAM is free there?

Times are RFC 3339 in UTC. Names that end in `_gb` are in GiB (2^30 bytes). Null means unknown, never 0.
Errors have the keys of `ErrorBody`, some have more. An unknown parameter is a 400. Every path that answers
GET also answers HEAD, and every path answers OPTIONS."""
SIGNATURE = {
    "agent": ("X-Agent-Id", "The agent that signs; its public key is in AUTH_KEYS_DIR."),
    "timestamp": ("X-Timestamp", "When it signed: RFC 3339 in UTC with Z."),
    "nonce": ("X-Nonce", "32 hexadecimal digits that are used once."),
    "signature": ("X-Signature", "The Ed25519 signature in Base64; docs/signatures.md says what it covers."),
}
"""The security schemes that together make a signature."""
SESSION = "session"
PATH_PARAMETERS = {
    "name": "The name of a machine, in any case of letters.",
    "lease": "The name of a lease.",
}
TAGS = {
    "/api/machines": "Machines",
    "/api/infrastructure": "Machines",
    "/api/models": "Machines",
    "/api/system": "Server",
    "/health": "Server",
    "/openapi": "Server",
    "/api/log": "Server",
    "/api/route": "Advice and leases",
    "/api/leases": "Advice and leases",
    "/mcp": "Tools for agents",
    "": "The past",
}
"""The group of each route, by the first start of its path that fits."""
_PAST = ("/history", "/availability")
_ANYWHERE = (
    *("bad_request", "request_timeout", "request_uri_too_long", "request_header_fields_too_large"),
    *("misdirected_request", "internal_error", "busy", "too_many_connections"),
)
_SIGNED = ("unauthorized",)
_WRITES = ("forbidden", "request_entity_too_large")
_SHARED = (*_ANYWHERE, *_SIGNED, *_WRITES, "not_found", "too_many_questions")
_KEY_SERVER = ApiError(503, ERRORS["unauthorized"].body, "the key-server cannot be reached")


def text() -> str:
    """The contents of the file."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def document() -> Schema:
    """The description of the API."""
    answers = [kind for route in ROUTES for kind in _classes(route)]
    schemas = answer_schemas([*answers, BriefMachines, *(error.body for error in ERRORS.values())])
    live = {"allOf": [{"$ref": f"{REF}DeclaredMachine"}, {"$ref": f"{REF}LiveKeys"}]}
    schemas["LiveMachine"] = live | {"description": "A machine: all keys of its file, and its live keys."}
    schemas["Infrastructure"]["properties"]["machines"]["items"] = {"$ref": f"{REF}LiveMachine"}
    events = schemas["Events"]["properties"]["events"]
    schemas["Event"] = events["items"] | {"description": "What happened to a machine."}
    events["items"] = {"$ref": f"{REF}Event"}
    bodies = {route.body.__name__: route.body for route in ROUTES if route.body}
    schemas |= {name: body_schema(kind) for name, kind in bodies.items()}
    paths: dict[str, Schema] = {}
    shared: Schema = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, shared)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "machines-server",
            "version": version("machines-server"),
            "summary": "The directory that agents ask before they send an LLM job somewhere.",
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "The site that this document comes from."}],
        "tags": [{"name": name} for name in dict.fromkeys(TAGS.values())],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": dict(sorted(shared.items())),
            "securitySchemes": _security_schemes(),
        },
    }


def _classes(route: ApiRoute) -> tuple[Any, ...]:
    answer = route.answer
    return answer if isinstance(answer, tuple) else () if isinstance(answer, str) else (answer,)


def _operation(route: ApiRoute, shared: Schema) -> Schema:
    found: Schema = {
        "operationId": route.operation,
        "tags": [_tag(route.path)],
        "summary": route.about,
        **({"description": route.note} if route.note else {}),
        "security": _security(route),
    }
    if parameters := list(_parameters(route)):
        found["parameters"] = parameters
    if route.body:
        found["requestBody"] = {
            "required": bool(body_schema(route.body)["required"]),
            "content": {JSON: {"schema": {"$ref": f"{REF}{route.body.__name__}"}}},
        }
    return found | {"responses": _responses(route, shared)}


def _tag(path: str) -> str:
    if path.endswith(_PAST):
        return TAGS[""]
    return next(tag for start, tag in TAGS.items() if path.startswith(start))


def _parameters(route: ApiRoute) -> Iterator[Schema]:
    for name, said in PATH_PARAMETERS.items():
        if f"{{{name}}}" in route.path:
            schema: Schema = {"type": "string", "minLength": 1}
            yield {"name": name, "in": "path", "required": True, "description": said, "schema": schema}
    if route.query:
        yield from query_parameters(route.query)
    if route.is_conditional:
        said = "The ETag of an earlier answer: 304 if it has not changed."
        yield {"name": "If-None-Match", "in": "header", "description": said, "schema": {"type": "string"}}
    if "idempotency_conflict" in route.errors:
        said = "Any text of your own: a request that repeats it gets the same lease again."
        schema = {"type": "string", "pattern": "^[!-~]+$", "maxLength": MAX_KEY_CHARACTERS}
        yield {"name": "Idempotency-Key", "in": "header", "description": said, "schema": schema}


def _security(route: ApiRoute) -> list[Schema]:
    """The security requirements: none where AUTH_MODE is off."""
    signature: Schema = {name: [] for name in SIGNATURE}
    if route.is_open:
        return []
    return [{}, signature, {SESSION: []}] if route.method == "GET" else [{}, signature]


def _security_schemes() -> Schema:
    schemes: Schema = {
        name: {"type": "apiKey", "in": "header", "name": header, "description": said}
        for name, (header, said) in SIGNATURE.items()
    }
    said = "A person who has signed in with a browser; it only reads."
    schemes[SESSION] = {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": said}
    return schemes


def _responses(route: ApiRoute, shared: Schema) -> Schema:
    """The responses by status; one that several routes give for the same reason goes into `shared`."""
    refs = [{"$ref": f"{REF}{class_of(one).__name__}"} for one in _classes(route)]
    first, *others = route.media
    schema: Schema = {"type": "string" if first.startswith("text/") else "object"}
    if refs:
        schema = refs[0] if len(refs) == 1 else {"$ref": f"{REF}LiveMachine"}
    if route.is_list:
        schema = {"type": "array", "items": schema}
    content = {first: {"schema": schema}} | {media: {"schema": {"type": "string"}} for media in others}
    found: Schema = {str(route.status): {"description": route.about, "content": content}}
    if route.is_conditional:
        etag = {"description": "Of this content.", "schema": {"type": "string"}}
        found["200"]["headers"] = {"ETag": etag}
        found["304"] = {"description": "It has not changed since the ETag in If-None-Match."}
    by_status: dict[int, dict[str, ApiError]] = {}
    for code, error in _errors(route):
        by_status.setdefault(error.status, {})[code] = error
    for status, errors in sorted(by_status.items()):
        response = _error_response(errors)
        if len(errors) == 1 and (code := next(iter(errors))) in _SHARED:
            shared[code], response = response, {"$ref": f"#/components/responses/{code}"}
        found[str(status)] = response
    return found


def _errors(route: ApiRoute) -> Iterator[tuple[str, ApiError]]:
    codes = [*route.errors, *_ANYWHERE]
    if "{" in route.path:
        codes.append("not_found")
    if not route.is_open:
        codes += _SIGNED
        yield "unauthorized", _KEY_SERVER
        codes.append("store_unavailable")
    if route.method != "GET":
        codes += _WRITES
    for code in dict.fromkeys(codes):
        yield code, ERRORS[code]


def _error_response(errors: dict[str, ApiError]) -> Schema:
    """The errors of one status, with the codes that their bodies may have."""
    bodies = [
        {"$ref": f"{REF}{name}"} for name in dict.fromkeys(one.body.__name__ for one in errors.values())
    ]
    said = "; ".join(f"`{code}`: {error.about}" for code, error in errors.items())
    codes = {"properties": {"error": {"enum": list(errors)}}}
    schema = codes | (bodies[0] if len(bodies) == 1 else {"anyOf": bodies})
    return {"description": said, "content": {JSON: {"schema": schema}}}


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
