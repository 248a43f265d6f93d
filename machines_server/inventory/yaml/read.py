"""Reads a machine file as a JSON value, and reports every problem, not only the first."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from machines_server.core.key_names import is_secret
from machines_server.core.text import one_line
from machines_server.inventory.limits import MAX_ALIAS_EXPANSION, MAX_DEPTH
from machines_server.inventory.problem_list import KeyPath, ProblemList, Severity, UnreadableFileError
from machines_server.inventory.yaml.core_schema import YAML_TAG
from machines_server.inventory.yaml.load import TOO_DEEP, LoadedYaml, load_yaml
from machines_server.inventory.yaml.scalars import (
    ScalarError,
    ScalarReader,
    has_own_tag,
    is_number,
    short_tag,
)

_QUOTES = "put it in quotes to keep it as a string"
_EXPOSED = (
    "the name of this key says that its value is a secret, and the server shows machine files to everyone; "
    "expected no secret here: remove it from the file, and replace the secret itself"
)
_MAPPING_TAGS = {f"{YAML_TAG}map", f"{YAML_TAG}set"}
_SEQUENCE_TAGS = {f"{YAML_TAG}seq", f"{YAML_TAG}omap", f"{YAML_TAG}pairs"}
_POSITION_DEPTH = 3
"""Levels of keys whose positions are remembered; none of our own keys is deeper."""


@dataclass(frozen=True, slots=True)
class ReprintedValue:
    """A number, or a numeric key, that JSON writes differently from the file, such as 1.10."""

    path: KeyPath
    mark: Any
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """The contents of one file; a value with an error is None."""

    declared: dict[str, Any]
    problems: ProblemList
    reprinted: list[ReprintedValue] = field(default_factory=list)


def read_yaml(content: bytes, file: str, list_key: str | None = None) -> Document:
    """Read a file of YAML 1.2; raises UnreadableFileError.

    A file that is a list is read as the value of `list_key`, if that is given.
    """
    return _NodeReader(load_yaml(content), file).document(list_key)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A value that was read, kept for aliases of it."""

    value: Any
    size: int
    """Its number of values and characters, with all aliases expanded."""
    height: int
    """Its levels of lists and mappings."""


class _NodeReader:
    """Turns nodes into JSON values, depth first."""

    def __init__(self, loaded: LoadedYaml, file: str) -> None:
        self._root = loaded.root
        self._scalars = ScalarReader(loaded)
        self._problems = ProblemList(file)
        self._reprinted: list[ReprintedValue] = []
        self._path: list[str | int] = []
        self._marks: list[Any] = [loaded.root.start_mark]
        """The positions of the value being read and of the values around it, outermost first."""
        self._unfinished: set[int] = set()
        self._finished: dict[int, _Finished] = {}
        self._size = self._repeated = 0

    def document(self, list_key: str | None) -> Document:
        """Read the whole file; raises UnreadableFileError."""
        self._problems.remember_position((), self._root.start_mark)
        try:
            declared = self._value(self._root)
        except RecursionError:
            raise UnreadableFileError(TOO_DEEP, path=tuple(self._path)) from None
        if list_key and isinstance(declared, list):
            declared = {list_key: declared}
        if not isinstance(declared, dict):
            expected = list_key or "name, role, hardware, network and models"
            raise UnreadableFileError(f"this is not a mapping; expected {expected}", 1, 1)
        return Document(declared, self._problems, self._reprinted)

    def _value(self, node: Node) -> Any:
        if id(node) in self._unfinished:
            return self._error("this alias is inside the value that it stands for; expected no cycle")
        finished = self._finished.get(id(node))
        if finished is not None:
            self._repeated += finished.size
            self._check_limits(finished.height)
            self._size += finished.size
            return finished.value
        size_before = self._size
        self._size += 1
        if isinstance(node, ScalarNode):
            self._size += len(node.value)
            self._check_limits()
            value, height = self._scalar(node), 0
        else:
            self._check_limits()
            self._unfinished.add(id(node))
            value = self._mapping(node) if isinstance(node, MappingNode) else self._sequence(node)
            self._unfinished.remove(id(node))
            parts = [pair[1] for pair in node.value] if isinstance(node, MappingNode) else node.value
            heights = (self._finished[id(part)].height for part in parts if id(part) in self._finished)
            height = 1 + max(heights, default=0)
        self._finished[id(node)] = _Finished(value, self._size - size_before, height)
        return value

    def _check_limits(self, height: int = 0) -> None:
        """Raise UnreadableFileError if aliases repeat too much, or a value of this height is too deep."""
        message = (
            "the aliases repeat too much; expected fewer" if self._repeated > MAX_ALIAS_EXPANSION else None
        )
        if message is None and len(self._path) + height > MAX_DEPTH:
            message = TOO_DEEP
        if message:
            mark = self._marks[-1]
            raise UnreadableFileError(message, mark.line + 1, mark.column + 1, tuple(self._path))

    def _child(self, key: str | int, node: Node, mark: Any) -> Any:
        """The value of a key or of a list item."""
        self._path.append(key)
        self._marks.append(mark)
        if len(self._path) <= _POSITION_DEPTH:
            self._problems.remember_position(tuple(self._path), mark)
        value = self._value(node)
        self._path.pop()
        self._marks.pop()
        return value

    def _mapping(self, node: Node) -> Any:
        self._check_tag(node, _MAPPING_TAGS)
        mapping: dict[str, Any] = {}
        marks: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            key = self._key(key_node)
            if key is None:
                continue
            if key in marks:
                message = f"the key {one_line(key, 40)} is repeated, first in line {marks[key].line + 1}"
                message += "; expected each key once (1 and '1' are one key in JSON)"
                self._report(message, (*self._path, key), mark)
                continue
            marks[key] = mark
            if is_secret(key):
                self._report(_EXPOSED, (*self._path, key), mark, "warning")
            if key_node.tag == f"{YAML_TAG}merge":
                for name, value in self._merged(key, value_node, mark).items():
                    mapping.setdefault(name, value)
            else:
                mapping[key] = self._child(key, value_node, mark)
        if node.tag == f"{YAML_TAG}set":
            return [self._scalar(key_node) for key_node, _ in node.value if isinstance(key_node, ScalarNode)]
        return mapping

    def _merged(self, key: str, node: Node, mark: Any) -> dict[str, Any]:
        """What `<<` brings into a mapping; of several mappings the first that has a key wins."""
        merged: dict[str, Any] = {}
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            value = self._child(key, source, mark)
            if not isinstance(source, MappingNode):
                message = "the value of << is not a mapping; expected a mapping or a list of mappings"
                self._report(message, (*self._path, key), mark)
            for name in value if isinstance(value, dict) else ():
                merged.setdefault(name, value[name])
        return merged

    def _sequence(self, node: Node) -> Any:
        self._check_tag(node, _SEQUENCE_TAGS)
        items = []
        for index, item in enumerate(node.value):
            is_alias = id(item) in self._finished or id(item) in self._unfinished
            items.append(self._child(index, item, self._marks[-1] if is_alias else item.start_mark))
        if node.tag not in (f"{YAML_TAG}omap", f"{YAML_TAG}pairs"):
            return items
        pairs = [pair for item in items if isinstance(item, dict) for pair in item.items()]
        if len(pairs) != len(items):
            return self._error("an item of this list has no key or several; expected one key in each item")
        if node.tag == f"{YAML_TAG}pairs":
            return [list(pair) for pair in pairs]
        if len(dict(pairs)) != len(pairs):
            return self._error("a key is in this list twice; expected each key once")
        return dict(pairs)

    def _check_tag(self, node: Node, known: set[str]) -> None:
        if node.tag not in known:
            self._error(f"the tag {self._quote(short_tag(node))} is unknown; expected none")

    def _key(self, node: Node) -> str | None:
        """The key as text; None after an error."""
        self._marks.append(node.start_mark)
        try:
            if not isinstance(node, ScalarNode):
                raise ScalarError("a list or a mapping is used as a key; expected a string")
            self._size += 1 + len(node.value)
            self._check_limits()
            key = self._scalars.value(node, self._quote)
        except ScalarError as error:
            self._error(str(error))
            return None
        finally:
            self._marks.pop()
        if isinstance(key, str):
            return key
        if isinstance(key, float) and not math.isfinite(key):
            return str(node.value)
        text = json.dumps(key)
        if text != node.value and not has_own_tag(node):
            message = f"the key {one_line(node.value, 40)} is read as {one_line(text, 40)}; {_QUOTES}"
            self._reprinted.append(ReprintedValue((*self._path, text), node.start_mark, message))
        return text

    def _scalar(self, node: ScalarNode) -> Any:
        try:
            value = self._scalars.value(node, self._quote)
        except ScalarError as error:
            return self._error(str(error))
        if isinstance(value, float) and not math.isfinite(value):
            message = f"{self._quote(node.value)} cannot be written in JSON and is served as null"
            message += f"; expected a finite number, or {_QUOTES}"
            self._report(message, tuple(self._path), self._marks[-1], "warning")
            return None
        if is_number(node) and value is not None and not has_own_tag(node) and repr(value) != node.value:
            message = f"{self._quote(node.value)} is read as the number {self._quote(repr(value))}; {_QUOTES}"
            self._reprinted.append(ReprintedValue(tuple(self._path), self._marks[-1], message))
        return value

    def _error(self, message: str) -> None:
        """Report an error in the value being read, and return None for it."""
        self._report(message, tuple(self._path), self._marks[-1])

    def _report(self, message: str, path: KeyPath, mark: Any, severity: Severity = "error") -> None:
        self._problems.add(message, path, mark, severity)

    def _quote(self, text: str) -> str:
        """A text of the file, shortened for a message; hidden if it belongs to a secret."""
        is_hidden = any(isinstance(part, str) and is_secret(part) for part in self._path)
        return "***" if is_hidden else one_line(text, 40)
