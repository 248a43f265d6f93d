"""Parses the bytes of a machine file into a tree of YAML nodes."""

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from machines_server.inventory.limits import MAX_DEPTH, MAX_MACHINE_FILE_BYTES, MAX_VALUES, too_large
from machines_server.inventory.problem_list import UnreadableFileError
from machines_server.inventory.yaml.core_schema import CoreSchema
from machines_server.inventory.yaml.scanner import LinearScanner
from machines_server.inventory.yaml.tabs import TAB_INDENTS, TabReader, TabScanner

TOO_DEEP = f"lists and mappings are nested too deep; expected at most {MAX_DEPTH} levels"
RUAMEL_BUGS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError),
    ValueError,
)
"""Exceptions, besides its own, that bugs of ruamel.yaml raise for unexpected input."""

_NO_CHARACTER = re.compile(r"\\U(?!000[0-9a-fA-F]|0010)[0-9a-fA-F]{8}")
_TOO_MANY_VALUES = "too many keys and values"
_SENTENCES = (
    (TAB_INDENTS, "this line is indented with a tab; expected spaces"),
    (_TOO_MANY_VALUES, f"the file has more keys and values than allowed; expected at most {MAX_VALUES:,}"),
    (r"mapping values are not allowed", "this line has a second ': '; expected quotes around the value"),
    (r"could not find expected ':'", "this line has no ': '; expected 'key: value'"),
    (r"another document", "a second document begins here; expected one machine in each file"),
    (r"maximum depth", TOO_DEEP),
    (r"undefined alias", "this alias has no anchor; expected &anchor earlier in the file, or quotes"),
    (r"unexpected end of stream", "the file ends inside a quoted text; expected the closing quote"),
)
"""Patterns for messages of ruamel.yaml, and our sentences instead."""

_YAML_1_1_LINE_BREAKS = "\x85\u2028\u2029"


class LoadedYaml(NamedTuple):
    """The root node of one file, and what is needed to read values."""

    root: Node
    constructor: Any
    """Turns a scalar node into a Python value."""
    characters: Mapping[int, str]
    """For `str.translate`: restores the characters that were replaced before parsing."""


def load_yaml(content: bytes) -> LoadedYaml:
    """Parse one document of YAML 1.2; raises UnreadableFileError."""
    if len(content) > MAX_MACHINE_FILE_BYTES:
        raise UnreadableFileError(too_large(len(content)))
    text, characters = _without_old_line_breaks(_decode(content))
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.Resolver = CoreSchema
    yaml.Composer = _BoundedComposer
    if "\t" in text:
        yaml.Reader, yaml.Scanner = TabReader, TabScanner
    else:  # faster, and enough for most files
        yaml.Scanner = LinearScanner
    yaml.composer.warn_double_anchors = False
    root = _compose(yaml, text)
    if root is None or (isinstance(root, ScalarNode) and not root.value):
        raise UnreadableFileError(
            "the file is empty; expected name, role, hardware, network and models", 1, 1
        )
    return LoadedYaml(root, yaml.constructor, characters)


class _BoundedComposer(Composer):
    """Stops after MAX_VALUES values, so that no file takes long to read."""

    _count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read one key or value and everything inside."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise MarkedYAMLError(problem=_TOO_MANY_VALUES, problem_mark=self.parser.peek_event().start_mark)
        return super().compose_node(parent, index)


def _decode(content: bytes) -> str:
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8"
    try:
        return content.removeprefix(BOM_UTF8).decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "ignore")
        message = f"this is not {encoding.upper()} text; expected UTF-8"
        raise UnreadableFileError(message, *_end_of(before)) from error


def _without_old_line_breaks(text: str) -> tuple[str, Mapping[int, str]]:
    """Replace three characters with placeholders; returns the text and the map back.

    They end a line in ruamel.yaml, as in YAML 1.1, but are ordinary characters in YAML 1.2.
    """
    if not any(character in text for character in _YAML_1_1_LINE_BREAKS):
        return text, {}
    placeholders = dict(zip(map(ord, _YAML_1_1_LINE_BREAKS), _unused_characters(text), strict=False))
    back = {ord(placeholder): chr(code) for code, placeholder in placeholders.items()}
    return text.translate(placeholders), back


def _unused_characters(text: str) -> Iterator[str]:
    """Private-use characters that are not in `text`, not even as an escape."""
    lower = text.lower()
    return (
        chr(code) for code in range(0xF0000, 0xF0100) if chr(code) not in text and f"{code:x}" not in lower
    )


def _compose(yaml: YAML, text: str) -> Node | None:
    try:
        root: Node | None = yaml.compose(text)
    except ReaderError as error:
        message = f"the character U+{ord(text[error.position]):04X} is not allowed here; expected printable"
        message += ' text, or an escape such as "\\x07" in double quotes'
        raise UnreadableFileError(message, *_end_of(text[: error.position])) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem or error.context)
        sentence = next((known for pattern, known in _SENTENCES if re.search(pattern, problem)), None)
        message = sentence or f"{problem}; expected valid YAML, check the quotes and the indentation"
        raise UnreadableFileError(message, *((mark.line + 1, mark.column + 1) if mark else ())) from error
    except (YAMLError, *RUAMEL_BUGS) as error:
        _check_version(yaml)
        if escape := _NO_CHARACTER.search(text):
            message = f"{escape[0]} is no character; expected one up to \\U0010ffff"
            raise UnreadableFileError(message, *_end_of(text[: escape.start()])) from error
        message = f"the file cannot be read ({type(error).__name__}: {error}); expected valid YAML 1.2"
        raise UnreadableFileError(message) from error
    _check_version(yaml)
    return root


def _check_version(yaml: YAML) -> None:
    version = yaml.doc_infos[-1].doc_version
    if version is not None and (version.major, version.minor) != (1, 2):
        message = f"the file asks for YAML {version.major}.{version.minor}; expected 1.2"
        raise UnreadableFileError(f"{message}, remove the %YAML line", 1, 1)


def _end_of(text: str) -> tuple[int, int]:
    """Line and column right after the text."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")
