"""The schemas of a tool's arguments and results, from openapi.json."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import orjson

from machines_server.contract.openapi import openapi_json

Schema = dict[str, Any]
_REF = "#/components/schemas/"


class Operation(NamedTuple):
    """An operation of the API."""

    method: str
    path: str
    in_path: frozenset[str]
    in_query: frozenset[str]
    arguments: dict[str, Schema]
    """The schema of each parameter and key of the body."""
    required: tuple[str, ...]
    answer: Schema
    """The schema of its good answer, whose references are those of openapi.json."""


@cache
def operations() -> dict[str, Operation]:
    """The operations of the API by their ids."""
    document = _document()
    return {
        operation["operationId"]: _operation(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def self_contained(schema: Schema) -> Schema:
    """A schema of an object that has the schemas to which it refers in `$defs`."""
    schemas, found = _document()["components"]["schemas"], dict[str, Schema]()
    waiting = set(_refs(schema))
    while waiting:
        name = waiting.pop()
        found[name] = schemas[name]
        waiting |= set(_refs(schemas[name])) - found.keys()
    whole = {"type": "object"} | schema | ({"$defs": found} if found else {})
    return dict(_with_local_refs(whole))


def reference(name: str) -> Schema:
    """A reference to a class of contract/."""
    return {"$ref": _REF + name}


@cache
def _document() -> Schema:
    return dict(orjson.loads(openapi_json()))


def _operation(method: str, path: str, operation: Schema) -> Operation:
    parameters = [one for one in operation.get("parameters", ()) if one["in"] != "header"]
    arguments = {one["name"]: one["schema"] | {"description": one["description"]} for one in parameters}
    required = [one["name"] for one in parameters if one.get("required")]
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        of_body = _document()["components"]["schemas"][schema["$ref"].removeprefix(_REF)]
        arguments |= of_body["properties"]
        required += of_body["required"]
    good = next(one for status, one in operation["responses"].items() if status.startswith("2"))
    return Operation(
        method,
        path,
        frozenset(one["name"] for one in parameters if one["in"] == "path"),
        frozenset(one["name"] for one in parameters if one["in"] == "query"),
        arguments,
        tuple(required),
        next(iter(good["content"].values()))["schema"],
    )


def _refs(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield value.removeprefix(_REF)
            else:
                yield from _refs(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from _refs(one)


def _with_local_refs(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: value.replace(_REF, "#/$defs/") if key == "$ref" else _with_local_refs(value)
            for key, value in schema.items()
            if key != "discriminator"
        }
    return [_with_local_refs(one) for one in schema] if isinstance(schema, list) else schema
