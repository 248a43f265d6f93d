"""Resolves plain scalars by the core schema of YAML 1.2, section 10.3.2.

By itself ruamel.yaml also reads numbers of YAML 1.1: 1_000, 0b11, -0x1F. Dates and << stay as it reads them.
"""

import re
from typing import Any

from ruamel.yaml.resolver import VersionedResolver

YAML_TAG = "tag:yaml.org,2002:"
_DIGITS = "0123456789"
_TIMESTAMP = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
    r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?"
)
_PATTERNS = (
    ("null", r"null|Null|NULL|~|", ["", *"nN~"]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", f"-+{_DIGITS}"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", f"-+.{_DIGITS}"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("timestamp", _TIMESTAMP, _DIGITS),
    ("merge", "<<", "<"),
)


def _by_first_character() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    by_first: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, pattern, first in _PATTERNS:
        for character in first:
            by_first.setdefault(character, []).append((f"{YAML_TAG}{kind}", re.compile(rf"(?:{pattern})\Z")))
    return by_first


_RESOLVERS = _by_first_character()


def is_plain_text(text: str) -> bool:
    """Return whether a text stays a text without quotes."""
    return not any(pattern.match(text) for _, pattern in _RESOLVERS.get(text[:1], ()))


class CoreSchema(VersionedResolver):
    """Resolves plain scalars to tags for ruamel.yaml."""

    @property
    def versioned_resolver(self) -> Any:
        """Pairs of tag and pattern, by the first character of a scalar."""
        return _RESOLVERS
