"""YAML 1.2 as JSON can hold it, and where in the file each key stands; all that is wrong is found at once."""

import json
import math
import re
from base64 import b64encode
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from machines_server.core.registry import Problem

MAX_BYTES = 2**20
"""A longer file is refused."""
MAX_REPEATED = 2**16
"""Nodes and characters that aliases add when they are replaced."""
MAX_DEPTH = 100
MAX_PROBLEMS = 100
MAX_DIGITS = 3500
"""Python refuses to print integers of more than 4,300 decimal digits."""

KeyPath = tuple[str | int, ...]
Severity = Literal["error", "warning"]

_TOO_DEEP = f"lists and mappings are nested too deep; expected at most {MAX_DEPTH} levels"
_SYNTAX = (
    (r"character '\\t'", "a tab stands here; expected spaces, YAML is not indented with tabs"),
    (r"mapping values are not allowed", "a second ': ' in one line; expected quotes around the value"),
    (r"could not find expected ':'", "expected 'key: value' in this line"),
    (r"another document", "a second document begins here; expected one machine in one file"),
    (r"maximum depth", _TOO_DEEP),
    (r"undefined alias", "an alias stands for nothing; expected its &anchor before it, or quotes"),
    (r"unexpected end of stream", "the file ends inside a quoted text; expected the closing quote"),
)
# What ruamel.yaml lets through, besides its own errors, from input it did not foresee.
_FOREIGN = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError)
_YAML = "tag:yaml.org,2002:"
_MAPPING_TAGS = {f"{_YAML}map", f"{_YAML}set"}
_SEQUENCE_TAGS = {f"{_YAML}seq", f"{_YAML}omap", f"{_YAML}pairs"}
_SCALAR_TAGS = {f"{_YAML}{kind}" for kind in ("null", "bool", "int", "float", "binary", "timestamp")}
_TEXT_TAGS = {f"{_YAML}{kind}" for kind in ("str", "value", "merge")}
OLD_BOOLEANS = {"y", "yes", "n", "no", "on", "off"}
"""Words that YAML 1.1 takes for a boolean, and 1.2 for a text."""
_OLD_BREAKS = "\x85\u2028\u2029"
_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?", re.ASCII)


class RefusedError(Exception):
    """The file cannot be read any further; the document has the problem."""


class Document:
    """The problems of one file, and what its YAML says in the terms of JSON."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._unnamed = 0
        self._positions: dict[KeyPath, Any] = {}
        self._path: list[str | int] = []
        self._at: list[Any] = []
        self._open: set[int] = set()
        self._done: dict[int, tuple[Any, int, int]] = {}
        self._expanded = self._repeated = 0
        self._breaks: dict[int, str] = {}

    def report(self, message: str, path: KeyPath, at: Any = None, severity: Severity = "error") -> None:
        """Note a problem at the mark `at`, else where the key `path`, or its nearest parent, stands."""
        if len(self.problems) >= MAX_PROBLEMS and (severity == "warning" or self.has_errors):
            self._unnamed += 1
            return
        line, column = (at.line + 1, at.column + 1) if at else self.position(path)
        key = clip(dotted(path), 200) or None
        problem = Problem(self.file, clip(message, 400), line, column, key, severity)
        if problem not in self.problems:
            self.problems.append(problem)

    def position(self, path: KeyPath) -> tuple[int | None, int | None]:
        """Line and column of the key `path` or of the nearest parent that has them."""
        while path not in self._positions and path:
            path = path[:-1]
        mark = self._positions.get(path)
        return (mark.line + 1, mark.column + 1) if mark else (None, None)

    def refuse(self, message: str, line: int | None = None, column: int | None = None) -> NoReturn:
        """Note the error after which there is nothing more to say about the file."""
        key = clip(dotted(tuple(self._path)), 200) or None
        self.problems = [Problem(self.file, clip(message, 400), line, column, key)]
        raise RefusedError

    @property
    def sorted_problems(self) -> tuple[Problem, ...]:
        """All problems as they stand in the file; of very many only the first are named."""
        named = sorted(self.problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        severity: Severity = "error" if self.has_errors else "warning"
        more = Problem(self.file, f"there are {self._unnamed} more problems like these", severity=severity)
        return (*named, more) if self._unnamed else tuple(named)

    @property
    def has_errors(self) -> bool:
        """Whether one of the problems is an error."""
        return any(problem.severity == "error" for problem in self.problems)

    def read(self, content: bytes) -> dict[str, Any]:
        """The top-level mapping as JSON can hold it; a value with an error in it is None."""
        root = self._compose(self._text(content))
        if root is None or (isinstance(root, ScalarNode) and not root.value):
            self.refuse("the file is empty; expected name, role, hardware, network and models", 1, 1)
        self._positions[()] = root.start_mark
        self._at.append(root.start_mark)
        try:
            declared = self._value(root)
        except RecursionError:
            self.refuse(_TOO_DEEP)
        if not isinstance(declared, dict):
            self.refuse("this is not a mapping; expected name, role, hardware, network and models", 1, 1)
        return declared

    def _text(self, content: bytes) -> str:
        if len(content) > MAX_BYTES:
            self.refuse(f"the file has more than {MAX_BYTES:,} bytes; expected at most that many")
        encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8"
        try:
            return content.removeprefix(BOM_UTF8).decode(encoding)
        except UnicodeDecodeError as error:
            before = content[: error.start].decode(encoding, "ignore")
            self.refuse(f"this is not {encoding.upper()} text; expected UTF-8", *_end_of(before))

    def _compose(self, text: str) -> Node | None:
        yaml = YAML(typ="safe", pure=True)
        yaml.max_depth = MAX_DEPTH
        yaml.composer.warn_double_anchors = False
        self._constructor = yaml.constructor
        # ruamel.yaml ends lines at these three as YAML 1.1 does; in YAML 1.2 they are characters like others.
        if any(character in text for character in _OLD_BREAKS):
            stand_ins = dict(zip(map(ord, _OLD_BREAKS), _unused(text), strict=False))
            self._breaks = {ord(stand_in): chr(code) for code, stand_in in stand_ins.items()}
            text = text.translate(stand_ins)
        try:
            root: Node | None = yaml.compose(text)
        except ReaderError as error:
            message = f"the character U+{ord(text[error.position]):04X} stands here; expected printable text"
            self.refuse(f'{message}, or an escape in "quotes"', *_end_of(text[: error.position]))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = str(error.problem or error.context)
            sentence = next((known for pattern, known in _SYNTAX if re.search(pattern, problem)), None)
            message = sentence or f"{problem}; expected valid YAML, check the quotes and the indentation"
            self.refuse(message, *((mark.line + 1, mark.column + 1) if mark else ()))
        except (YAMLError, ValueError, *_FOREIGN) as error:
            self._check_version(yaml)
            self.refuse(f"this cannot be read ({type(error).__name__}: {error}); expected valid YAML 1.2")
        self._check_version(yaml)
        return root

    def _check_version(self, yaml: YAML) -> None:
        asked = yaml.doc_infos[-1].doc_version
        if asked is not None and (asked.major, asked.minor) != (1, 2):
            version = f"{asked.major}.{asked.minor}"
            self.refuse(f"the file asks for YAML {version}; expected 1.2, leave out the %YAML line", 1, 1)

    def _value(self, node: Node) -> Any:
        before = self._expanded
        if id(node) in self._open:
            return self._error("an alias stands inside what it stands for; expected no cycle")
        if (done := self._done.get(id(node))) is not None:
            value, size, height = done
            self._repeated += size
            self._spend(size, height)
            return value
        self._spend(1 + len(node.value) * isinstance(node, ScalarNode))
        if isinstance(node, ScalarNode):
            value, height = self._scalar(node), 0
        else:
            self._open.add(id(node))
            value = self._mapping(node) if isinstance(node, MappingNode) else self._sequence(node)
            self._open.remove(id(node))
            parts = [pair[1] for pair in node.value] if isinstance(node, MappingNode) else node.value
            height = 1 + max((self._done[id(part)][2] for part in parts if id(part) in self._done), default=0)
        self._done[id(node)] = value, self._expanded - before, height
        return value

    def _spend(self, size: int, height: int = 0) -> None:
        self._expanded += size
        mark = self._at[-1]
        if self._repeated > MAX_REPEATED:
            self.refuse("the aliases repeat too much; expected less", mark.line + 1, mark.column + 1)
        if len(self._path) + height > MAX_DEPTH:
            self.refuse(_TOO_DEEP, mark.line + 1, mark.column + 1)

    def _error(self, message: str) -> Any:
        """Note an error in the value that is being read, which becomes None."""
        self.report(message, tuple(self._path), self._at[-1])
        return None

    def _enter(self, key: str | int, node: Node, mark: Any) -> Any:
        self._path.append(key)
        self._at.append(mark)
        if len(self._path) <= 3:
            self._positions[tuple(self._path)] = mark
        value = self._value(node)
        self._path.pop()
        self._at.pop()
        return value

    def _mapping(self, node: Node) -> Any:
        self._check_tag(node, _MAPPING_TAGS)
        found: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            key = self._key(key_node)
            if key is None:
                continue
            if key in own:
                twice = f"the key {clip(key, 40)} stands here again, first in line {own[key].line + 1}"
                twice += "; expected each key once (1 and '1' are one key in JSON)"
                self.report(twice, (*self._path, key), mark)
                continue
            own[key] = mark
            if key_node.tag == f"{_YAML}merge":
                sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                for source in sources:
                    merged = self._enter(key, source, mark)
                    if not isinstance(source, MappingNode):
                        message = "<< stands before something else; expected a mapping or several"
                        self.report(message, (*self._path, key), mark)
                    for name in merged if isinstance(merged, dict) else ():
                        found.setdefault(name, merged[name])
            else:
                found[key] = self._enter(key, value_node, mark)
        if node.tag == f"{_YAML}set":
            return [self._scalar(key_node) for key_node, _ in node.value if isinstance(key_node, ScalarNode)]
        return found

    def _sequence(self, node: Node) -> Any:
        self._check_tag(node, _SEQUENCE_TAGS)
        items = []
        for index, item in enumerate(node.value):
            is_alias = id(item) in self._done or id(item) in self._open
            items.append(self._enter(index, item, self._at[-1] if is_alias else item.start_mark))
        if node.tag not in (f"{_YAML}omap", f"{_YAML}pairs"):
            return items
        pairs = [pair for item in items if isinstance(item, dict) for pair in item.items()]
        if len(pairs) != len(items):
            return self._error("a list with other than one key in an item; expected one key in each item")
        if node.tag == f"{_YAML}pairs":
            return [list(pair) for pair in pairs]
        if len(dict(pairs)) != len(pairs):
            return self._error("a key stands twice in this list; expected each key once")
        return dict(pairs)

    def _check_tag(self, node: Node, known: set[str]) -> None:
        if node.tag not in known:
            self._error(f"the tag {_tag(node)} is not known here; expected none")

    def _key(self, node: Node) -> str | None:
        self._at.append(node.start_mark)
        if isinstance(node, ScalarNode):
            self._spend(1 + len(node.value))
            key = _json_value(self._constructed(node), node.value)
        else:
            key = self._error("a list or a mapping is used as a key; expected a text")
        self._at.pop()
        if key is None and node.tag != f"{_YAML}null":
            return None
        if isinstance(key, float) and not math.isfinite(key):
            return str(node.value)
        return key if isinstance(key, str) else json.dumps(key)

    def _scalar(self, node: Node) -> Any:
        value = self._constructed(node)
        if isinstance(value, float) and not math.isfinite(value):
            message = f"{clip(node.value, 40)} has no form in JSON and is served as null; expected a number"
            self.report(message, tuple(self._path), self._at[-1], "warning")
            return None
        return _json_value(value, node.value)

    def _constructed(self, node: Node) -> Any:
        """The scalar as Python has it; what only looks like a date or a number is text, as in YAML 1.2."""
        if node.tag in _TEXT_TAGS:
            return self._whole_characters(node)
        if node.tag not in _SCALAR_TAGS:
            return self._error(f"the tag {_tag(node)} is not known here; expected none, or quotes around it")
        if node.tag == f"{_YAML}int" and len(node.value) > MAX_DIGITS:
            return self._error(f"a number of {len(node.value):,} digits; expected at most {MAX_DIGITS:,}")
        try:
            return self._constructor.construct_non_recursive_object(node)
        except (YAMLError, ValueError, *_FOREIGN):
            if node.ctag.handle is None:
                return node.value
            return self._error(f"{clip(node.value, 40)!r} is not what its tag {_tag(node)} says")

    def _whole_characters(self, node: Node) -> Any:
        text: str = node.value
        if text.isascii():
            return text
        try:  # "\ud83d\ude00", JSON's way to write one character, arrives as two halves
            return text.translate(self._breaks).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            return self._error(r"half of a character (\ud800 to \udfff) stands here; expected both halves")


def _unused(text: str) -> Iterator[str]:
    """Characters for private use that `text` has neither as such nor as an escape."""
    lower = text.lower()
    return (
        chr(code) for code in range(0xF0000, 0xF0100) if chr(code) not in text and f"{code:x}" not in lower
    )


def _json_value(value: Any, text: str) -> Any:
    if isinstance(value, date):
        return text if _ISO_8601.fullmatch(text) else value.isoformat()
    return b64encode(value).decode() if isinstance(value, bytes) else value


def dotted(path: KeyPath) -> str:
    """A key path as people write it: `hardware.gpu[1].vram_gb`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _tag(node: Node) -> str:
    return clip(re.sub(rf"^{_YAML}", "!!", str(node.tag)), 40)


def _end_of(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def clip(text: str, length: int) -> str:
    """`text` on one line, at most `length` characters of it, without halves of characters."""
    line = " ".join(text.split()) if "\n" in text else text
    short = line if len(line) <= length else f"{line[: length - 3]}..."
    return short.encode("utf-8", "backslashreplace").decode()
