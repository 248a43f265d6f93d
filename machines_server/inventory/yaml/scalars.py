"""The JSON value of a YAML scalar: a text, a number, a boolean, a date or bytes."""

import re
from base64 import b64encode
from collections.abc import Callable
from datetime import date
from typing import Any

from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node, ScalarNode

from machines_server.core.text import one_line
from machines_server.inventory.limits import MAX_DIGITS
from machines_server.inventory.yaml.core_schema import YAML_TAG
from machines_server.inventory.yaml.load import RUAMEL_BUGS, LoadedYaml

_NUMBER_TAGS = {f"{YAML_TAG}int", f"{YAML_TAG}float"}
_SCALAR_TAGS = {f"{YAML_TAG}{kind}" for kind in ("null", "bool", "int", "float", "binary", "timestamp")}
_TEXT_TAGS = {f"{YAML_TAG}{kind}" for kind in ("str", "value", "merge")}
_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?", re.ASCII)


class ScalarError(Exception):
    """A scalar without a value; the message says why."""


class ScalarReader:
    """Reads the scalars of one file; `quote` prepares a text of the file for a message."""

    def __init__(self, loaded: LoadedYaml) -> None:
        self._construct = loaded.constructor.construct_non_recursive_object
        self._characters = loaded.characters

    def value(self, node: ScalarNode, quote: Callable[[str], str]) -> Any:
        """The JSON value, though a float may be infinite or NaN; raises ScalarError."""
        value = self._python_value(node, quote)
        if isinstance(value, date):
            return node.value if _ISO_8601.fullmatch(node.value) else value.isoformat()
        return b64encode(value).decode() if isinstance(value, bytes) else value

    def _python_value(self, node: ScalarNode, quote: Callable[[str], str]) -> Any:
        """The Python value; what only looks like a date or number is a text, as in YAML 1.2."""
        if node.tag in _TEXT_TAGS:
            return self._text(node.value)
        if node.tag not in _SCALAR_TAGS:
            raise ScalarError(
                f"the tag {quote(short_tag(node))} is unknown; expected none, or quotes around it"
            )
        if node.tag == f"{YAML_TAG}int" and len(node.value) > MAX_DIGITS:
            raise ScalarError(f"the number has {len(node.value):,} digits; expected at most {MAX_DIGITS:,}")
        try:
            return self._construct(node)
        except (YAMLError, *RUAMEL_BUGS):
            if not has_own_tag(node):
                return node.value
            message = f"{quote(node.value)} does not fit the tag {quote(short_tag(node))}"
            raise ScalarError(f"{message}; expected another value, or no tag") from None

    def _text(self, text: str) -> str:
        if text.isascii():
            return text
        try:  # JSON may write one character as a surrogate pair of escapes, "\ud83d\ude00"
            return text.translate(self._characters).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            message = r"this string has half of a surrogate pair (\ud800 to \udfff); expected both halves"
            raise ScalarError(message) from None


def is_number(node: ScalarNode) -> bool:
    """Return whether the node has the tag of a number."""
    return node.tag in _NUMBER_TAGS


def has_own_tag(node: Node) -> bool:
    """Return whether the file itself names the tag, as in `!!str 7`."""
    return node.ctag.handle is not None


def short_tag(node: Node) -> str:
    """The tag as it is written in files: `!!int`."""
    return one_line(re.sub(rf"^{YAML_TAG}", "!!", str(node.tag)), 40)
