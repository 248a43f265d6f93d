"""The classes of contract/ as the JSON Schemas of openapi.json."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect
from pydantic import BaseModel

from tools.class_docs import about, class_of, field_docs

Schema = dict[str, Any]
REF = "#/components/schemas/"


def answer_schemas(kinds: Sequence[Any]) -> dict[str, Schema]:
    """The classes, and those that they mention, by name; keys that are always present are required."""
    _, by_key = msgspec.json.schema_components(kinds, ref_template=REF + "{name}")
    names = {key: schema["title"].partition("[")[0] for key, schema in by_key.items()}
    renamed = {REF + key: REF + name for key, name in names.items()}
    found = {names[key]: _with_refs(schema, renamed) for key, schema in by_key.items()}
    for kind in _structs(kinds):
        schema, docs = found[kind.cls.__name__], field_docs(kind.cls)
        schema["description"] = about(kind.cls)
        schema["required"] = [
            *(["type"] if kind.tag else []),
            *(one.encode_name for one in kind.fields if one.required or one.default is not NODEFAULT),
        ]
        for one in kind.fields:
            part = schema["properties"][one.encode_name]
            part.pop("default", None)
            if said := docs.get(one.name):
                part["description"] = said
    for schema in found.values():
        schema.pop("title", None)
    return found


def query_parameters(kind: type) -> Iterator[Schema]:
    """The parameters of a query."""
    docs = field_docs(kind)
    if issubclass(kind, BaseModel):
        model = kind.model_json_schema()
        for name, schema in model["properties"].items():
            yield _parameter(name, _plain(schema), docs[name])
        return
    described: Any = inspect.type_info(kind)
    for field in described.fields:
        schema = (getattr(field.type, "extra", None) or {}).get("schema")
        is_list = isinstance(field.type, inspect.VarTupleType)
        default: Schema = {"type": "array", "items": {"type": "string"}} if is_list else {"type": "string"}
        yield _parameter(field.encode_name, schema or default, docs[field.name])


def body_schema(kind: type[BaseModel]) -> Schema:
    """A body of JSON, in which null is the same as leaving a key out and a list may be a single text."""
    docs, model = field_docs(kind), kind.model_json_schema()
    properties = {}
    for name, schema in model["properties"].items():
        plain = _plain(schema)
        if plain.get("type") == "array":
            plain = {"anyOf": [plain, plain["items"]]}
        if name not in model.get("required", ()):
            plain = {"anyOf": [*plain.get("anyOf", [plain]), {"type": "null"}]}
        properties[name] = plain | {"description": docs[name]}
    return {
        "type": "object",
        "description": about(kind),
        "properties": properties,
        "required": model.get("required", []),
        "additionalProperties": kind.model_config.get("extra") != "forbid",
    }


def _parameter(name: str, schema: Schema, said: str) -> Schema:
    found = {"name": name, "in": "query", "description": said, "allowEmptyValue": True, "schema": schema}
    return found | ({"style": "form", "explode": True} if schema.get("type") == "array" else {})


def _plain(schema: Schema) -> Schema:
    """A schema of pydantic's without its title and without null."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    if parts := [one for one in schema.pop("anyOf", []) if one.get("type") != "null"]:
        (part,) = parts
        schema |= part
    if schema.get("default") in (None, "", []):
        schema.pop("default", None)
    return schema


def _with_refs(schema: Any, renamed: dict[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: renamed[value] if key == "$ref" else _with_refs(value, renamed)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_with_refs(one, renamed) for one in schema]
    return renamed.get(schema, schema) if isinstance(schema, str) else schema


def _structs(kinds: Iterable[Any]) -> list[Any]:
    """The descriptions of all structs that these types mention, by class."""
    found: dict[type, Any] = {}
    waiting: list[Any] = list(inspect.multi_type_info(kinds))
    while waiting:
        one = waiting.pop()
        if isinstance(one, inspect.StructType):
            cls = class_of(one.cls)
            if cls in found:
                continue
            found[cls] = one
            waiting += (field.type for field in one.fields)
        for part in ("type", "item_type", "value_type"):
            if isinstance(inner := getattr(one, part, None), inspect.Type):
                waiting.append(inner)
        for part in ("types", "item_types"):
            waiting += getattr(one, part, ())
    return list(found.values())
