"""One machine file: bytes in, a Machine and its warnings out, or all errors with line and column."""

import ipaddress
import json
import re
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from machines_server.core.registry import Machine, Problem
from machines_server.yaml_document import Document, KeyPath, RefusedError, clip, dotted

LIVE_KEYS = ("status", "status_reason", "sampled_at", "last_seen", "telemetry", "loaded_models", "ollama")
"""Keys that /api/infrastructure fills; `_config_file` is added to every machine as well."""

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = rf"(?:{_LABEL}\.)*{_LABEL}\.?"
_ENDS_IN_A_NUMBER = r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?"
_HOST_HINTS = (
    (r"://", "leave out the scheme"),
    (r"[\[\]]", "write an IPv6 address without brackets"),
    (r"^[^:]*:[0-9]+(/|$)|://.*:[0-9]+|\]:[0-9]+", "put the port under network.port"),
    (r"(?<![:/])/(?!/)|[?#]", "leave out the path"),
    (r"@", "leave out the user"),
    (r"\s", "leave out the space"),
    (r"%", "leave out the zone"),
    (r"[^\x00-\x7f]", "write the name in its ASCII form, xn--..."),
    (rf"^{_ENDS_IN_A_NUMBER}$", "this is not a whole IPv4 address"),
)


def _host(value: str) -> str:
    """`value` if it is an IP address, or a host name that no resolver reads as a short IPv4 address."""
    with suppress(ValueError):
        if "%" not in str(ipaddress.ip_address(value)):
            return value
    if len(value) <= 253 and re.fullmatch(_HOST_NAME, value) and not re.fullmatch(_ENDS_IN_A_NUMBER, value):
        return value
    raise ValueError("; ".join(hint for pattern, hint in _HOST_HINTS if re.search(pattern, value[:300])))


_HOST_SCHEMA: dict[str, JsonValue] = {
    "pattern": rf"^(?:{_HOST_NAME}|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)$",
    "maxLength": 253,
}
_STRICT = ConfigDict(strict=True, extra="allow")
Port = Annotated[int, Field(ge=1, le=65535)]


class Hardware(BaseModel):
    """What the machine is made of, in the operator's own words; only `gpu` has a form."""

    model_config = _STRICT

    gpu: list[dict[str, Any]] = Field([], description="a list of mappings, one for each GPU, [] for none")


class Network(BaseModel):
    """Where the machine is reached."""

    model_config = _STRICT

    hostname: Annotated[str, AfterValidator(_host)] = Field(
        description="a host name or an IP address and nothing else", json_schema_extra=_HOST_SCHEMA
    )
    port: Port = Field(11434, description="the port of Ollama, a whole number from 1 to 65535")
    sidecar_port: Port = Field(3039, description="the port of the sidecar, a whole number from 1 to 65535")
    ollama: bool = Field(default=True, description="true, or false for a host without Ollama")
    sidecar: bool = Field(default=True, description="true, or false for a host on which no sidecar runs")


class MachineFile(BaseModel):
    """One machine of the fleet; keys that are not named here are served as they are written."""

    model_config = ConfigDict(strict=True, extra="allow", title="Machine file")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or a digit",
    )
    role: str = Field(pattern=r"\S", description="a text that is not empty, such as gpu-host")
    hardware: Hardware = Field(description="a mapping, {} if there is nothing to say")
    network: Network = Field(description="a mapping with at least the key hostname")
    models: list[Annotated[str, Field(pattern=r"\S")]] = Field(
        description="a list of the models that Ollama has here, [] for none"
    )


_MODELS: dict[KeyPath, type[BaseModel]] = {(): MachineFile, ("hardware",): Hardware, ("network",): Network}
_EXPECTED: dict[KeyPath, str] = {
    (*parent, key): str(field.description)
    for parent, model in _MODELS.items()
    for key, field in model.model_fields.items()
}
_EXPECTED_ITEM: dict[KeyPath, str] = {
    ("models",): "the name of a model, such as llama3.1:70b",
    ("hardware", "gpu"): "a mapping, such as {model: 24GB consumer GPU, vram_gb: 24}",
}


class Parsed(NamedTuple):
    """The machine, or None when one of the problems is an error; line and column of the key `name`."""

    machine: Machine | None
    problems: tuple[Problem, ...]
    name_at: tuple[int | None, int | None] = (None, None)


def parse_machine(content: bytes, file: str) -> Parsed:
    """Read one machine file of YAML 1.2; `file` is its name in the problems and in the machine."""
    document = Document(file)
    try:
        return _checked(document.read(content), document)
    except RefusedError:
        return Parsed(None, document.sorted_problems)


def parse_declared(text: str | bytes, file: str) -> Parsed:
    """Check the JSON text of a machine's `declared` again, as a store may have kept it."""
    document = Document(file)
    try:
        declared = json.loads(text)
        if isinstance(declared, dict):
            return _checked(declared, document)
    except (ValueError, RecursionError):
        pass
    document.report("what was kept of this machine is not a JSON object; expected its last good version", ())
    return Parsed(None, document.sorted_problems)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a machine file, for editors; `machines/machine.schema.json` is a copy."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **MachineFile.model_json_schema()}


def _checked(declared: dict[str, Any], document: Document) -> Parsed:
    reported = {problem.key for problem in document.problems if problem.severity == "error"}
    try:
        checked = MachineFile.model_validate(declared)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False):
            path = details["loc"]
            if details["type"] == "missing" and path == ("network",):
                path = ("network", "hostname")
            if dotted(path) not in reported:
                document.report(_sentence(details, path), path)
    for key in (*LIVE_KEYS, "_config_file"):
        if key in declared:
            message = f"the server has a key {key} of its own, which stands in its place in live answers"
            document.report(f"{message}; expected another name", (key,), severity="warning")
    machine = None if document.has_errors else _machine(checked, declared, document.file)
    return Parsed(machine, document.sorted_problems, document.position(("name",)))


def _machine(checked: MachineFile, declared: dict[str, Any], file: str) -> Machine:
    return Machine(
        name=checked.name,
        file=file,
        role=checked.role,
        hostname=checked.network.hostname,
        port=checked.network.port,
        sidecar_port=checked.network.sidecar_port,
        has_ollama=checked.network.ollama,
        has_sidecar=checked.network.sidecar,
        models=tuple(checked.models),
        declared=declared,
        declared_json={
            key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in declared.items()
        },
    )


def _sentence(details: ErrorDetails, path: KeyPath) -> str:
    """What pydantic found, said to the person who wrote the file."""
    expected = _EXPECTED.get(path) or _EXPECTED_ITEM.get(path[:-1]) or details["msg"]
    value, kind = details["input"], details["type"]
    if kind == "missing":
        return f"the key is missing; expected {expected}"
    hint = ""
    if kind == "value_error":
        hint = details["msg"].removeprefix("Value error, ")
    elif kind == "string_type" and isinstance(value, bool | int | float):
        hint = "put it in quotes"
    elif isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+|true|false", value):
        hint = "remove the quotes" if kind in ("int_type", "bool_type") else ""
    return f"found {_found(value)}; expected {expected}" + (f": {hint}" if hint else "")


def _found(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the text {clip(json.dumps(value, ensure_ascii=False), 60)}"
        case bool():
            return json.dumps(value)
    return f"the number {clip(json.dumps(value), 40)}"
