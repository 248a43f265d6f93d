"""Parses one machine file into a machine, or into its problems with line and column."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from machines_server.core.key_names import closest_key
from machines_server.core.machine import Machine, Problem
from machines_server.core.sample import GIB
from machines_server.core.text import escape_in_quotes, one_line
from machines_server.inventory.endpoints import endpoints, sends_openly
from machines_server.inventory.host_services import service_warnings, services_of
from machines_server.inventory.problem_list import (
    KeyPath,
    Position,
    ProblemList,
    UnreadableFileError,
    dotted,
    make_problem,
)
from machines_server.inventory.schema import MachineFile, expected, keys_at
from machines_server.inventory.yaml.read import Document, read_yaml

log = logging.getLogger(__name__)

LIVE_KEYS = ("status", "status_reason", "sampled_at", "last_seen", "telemetry", "loaded_models", "ollama")
"""Keys that the server adds to each machine in /api/infrastructure, as it adds `_config_file` everywhere."""

_OPTIONAL_KEYS: dict[str, type] = {"limits": dict, "services": list, "runtimes": list}
"""Our optional top-level keys and their types; a similar key is a mistake only if its value has that type."""


class Parsed(NamedTuple):
    """The machine, or None if one of the problems is an error, and the positions of two keys."""

    machine: Machine | None
    problems: tuple[Problem, ...]
    name_at: Position = (None, None)
    hostname_at: Position = (None, None)


def parse_machine(content: bytes, file: str) -> Parsed:
    """Parse one machine file of YAML 1.2; `file` is its name in the problems and in the machine."""
    try:
        return _check(read_yaml(content, file), file)
    except UnreadableFileError as error:
        problem = make_problem(file, error.message, error.path, error.line, error.column)
        return Parsed(None, (problem,))
    except MemoryError:  # may be temporary, so the caller tries again
        raise
    except Exception as error:
        log.exception("machine file %s cannot be read", file)
        return Parsed(None, (Problem(file, unexpected(error)),))


def parse_declared(text: str | bytes, file: str) -> Parsed:
    """Parse the JSON text of a machine's `declared` that the store kept."""
    try:
        declared = json.loads(text)
        if isinstance(declared, dict):
            return _check(Document(declared, ProblemList(file)), file)
    except Exception as error:  # noqa: BLE001  written by another version, or damaged
        log.debug("the stored version of %s cannot be read: %s", file, error)
    return Parsed(None, (Problem(file, "the stored version of this file is not a JSON object"),))


def unexpected(error: Exception) -> str:
    """The message about a file that failed in an unexpected way."""
    cause = one_line(f"{type(error).__name__}: {error}", 300)
    return f"the file cannot be read ({cause}); expected an ordinary YAML file, see the log of the server"


def _check(document: Document, file: str) -> Parsed:
    """Apply the rules of the format to the contents of a file."""
    declared, problems = document.declared, document.problems
    known_errors = problems.keys_with_errors
    checked = None
    try:
        checked = MachineFile.model_validate(declared)
    except ValidationError as error:
        for path, message in rule_error(error):
            if dotted(path) not in known_errors:
                problems.add(message, path)
    for path, message in _warnings(declared, checked):
        problems.add(message, path, severity="warning")
    for value in document.reprinted:
        if expected(value.path) is None:
            problems.add(value.message, value.path, value.mark, "warning")
    at = problems.position
    machine = _machine(checked, declared, file) if checked and not problems.has_errors else None
    return Parsed(machine, problems.in_order(), at(("name",)), at(("network", "hostname")))


def rule_error(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """The rules of the format that a file breaks, each as a key path and a message."""
    for details in error.errors(include_url=False, include_context=False):
        path = details["loc"]
        if details["type"] == "missing" and path == ("network",):
            path = ("network", "hostname")
        yield path, _sentence(details, path)


def _warnings(declared: dict[str, Any], checked: MachineFile | None) -> Iterator[tuple[KeyPath, str]]:
    """Messages about probable mistakes in a file, which is `checked` if it is valid."""
    for key in (*LIVE_KEYS, "_config_file"):
        if key in declared:
            message = f"the server's own key {key} replaces this one in live answers"
            yield (key,), f"{message}; expected another name"
    for path, name in _misspelt_keys(declared):
        ours = dotted((*path[:-1], name))
        yield path, f"this key has no effect and looks like {ours}; expected {name}, or another name"
    if checked:
        yield from service_warnings(checked.services)
    if checked and sends_openly(checked.network):
        message = "this credential is sent over plain http, which everyone on the way can read"
        message += "; expected network.scheme: https, or a network that encrypts by itself, such as WireGuard"
        yield ("network", "credential"), message


def _misspelt_keys(declared: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """The probably misspelt keys, each with the key that was meant."""
    for key, value in declared.items():
        meant = closest_key(key, _OPTIONAL_KEYS)
        if meant and isinstance(value, _OPTIONAL_KEYS[meant]):
            yield (key,), meant
    parts: list[tuple[KeyPath, Any]] = [((key,), declared.get(key)) for key in ("network", "limits")]
    for key in ("services", "runtimes"):
        if isinstance(entries := declared.get(key), list):
            parts += [((key, index), entry) for index, entry in enumerate(entries)]
    for path, part in parts:
        for key in part if isinstance(part, dict) else ():
            if meant := closest_key(key, keys_at(path)):
                yield (*path, key), meant


def _machine(checked: MachineFile, declared: dict[str, Any], file: str) -> Machine:
    return Machine(
        name=checked.name,
        file=file,
        role=checked.role,
        hostname=checked.network.hostname,
        port=checked.network.port,
        endpoints={endpoint.kind: endpoint for endpoint in endpoints(checked.network)},
        models=tuple(checked.models),
        declared=declared,
        declared_json={
            key: escape_in_quotes(json.dumps(value, ensure_ascii=False, allow_nan=False))
            for key, value in declared.items()
        },
        gpus=_gpus(checked),
        reserve_vram_bytes=round(checked.limits.reserve_vram_gb * GIB),
        max_loaded_models=checked.limits.max_loaded_models or None,
        max_leases=checked.limits.max_leases,
        services=services_of(checked.services, checked.network.hostname),
    )


def _gpus(checked: MachineFile) -> tuple[int | str, ...] | None:
    """The cards that Ollama uses, by UUID where `hardware.gpu` has the UUID of an index."""
    if "gpus" not in checked.network.model_fields_set:
        return None
    uuids: dict[int | str, str] = {}
    for position, card in enumerate(checked.hardware.gpu):
        index, uuid = card.get("index", position), card.get("uuid")
        if type(index) is int and isinstance(uuid, str):
            uuids[index] = uuid
    cards: list[int | str] = checked.network.gpus
    return tuple(uuids.get(card, card) for card in cards)


def _sentence(details: ErrorDetails, path: KeyPath) -> str:
    """An error of pydantic as a sentence for the author of the file."""
    rule = expected(path) or details["msg"]
    value, kind = details["input"], details["type"]
    if kind == "missing":
        meant = next((key for key in value if closest_key(key, [str(details["loc"][-1])])), None)
        return f"the key is missing; expected {rule}" + (f": is it {one_line(meant, 40)}?" if meant else "")
    hint = ""
    if kind == "value_error":
        hint = details["msg"].removeprefix("Value error, ")
    elif kind == "string_type" and isinstance(value, bool | int | float):
        hint = "put it in quotes"
    elif isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+|true|false", value):
        hint = "remove the quotes" if kind in ("int_type", "bool_type") else ""
    shown = "a string" if isinstance(value, str) and path[-1] == "credential" else _describe(value)
    return f"found {shown}; expected {rule}" + (f": {hint}" if hint else "")


def _describe(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the string {one_line(json.dumps(value, ensure_ascii=False), 60)}"
        case bool():
            return json.dumps(value)
    return f"the number {one_line(json.dumps(value), 40)}"
