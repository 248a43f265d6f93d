"""Two kinds of values in a machine file: the path before an API, and the name of a file of a folder."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

MAX_PATH_CHARACTERS = 512
_SEGMENT = r"(?:[A-Za-z0-9._~:@+!$&'()*,;=-]|%[0-9A-Fa-f]{2})+"
_PATH = rf"^/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?$"
_DOTS = r"(?:^|/)(?:\.|%2[eE]){1,2}(?:/|$)"
_PATH_HINTS = (
    (r"://", "remove the scheme and the host, which have keys of their own"),
    (r"^[^/]", "put a / before it"),
    (r"\?", "remove the query"),
    (r"#", "remove the fragment"),
    (r"\s", "remove the space"),
    (r"//", "remove the empty part between two slashes"),
    (_DOTS, "write the path without . and .. in it"),
    (r"%(?![0-9A-Fa-f]{2})", "after % come two hexadecimal digits"),
)
_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$"
_FILE_NAME_HINTS = (
    (r"[/\\]", "give the name alone, without a folder"),
    (r"^\.", "a hidden file is not read"),
    (r"\s", "remove the space"),
)


def _path(value: str) -> str:
    """Return a path without query, fragment, empty parts and dots; else raise ValueError."""
    if len(value) > MAX_PATH_CHARACTERS:
        raise ValueError(f"it has over {MAX_PATH_CHARACTERS} characters")
    if re.search(_PATH, value) and "\n" not in value and not re.search(_DOTS, value):
        return value
    raise ValueError("; ".join(hint for pattern, hint in _PATH_HINTS if re.search(pattern, value)))


def _name(value: str) -> str:
    """Return the plain name of a file; else raise ValueError."""
    if re.search(_FILE_NAME, value) and "\n" not in value:
        return value
    raise ValueError("; ".join(hint for pattern, hint in _FILE_NAME_HINTS if re.search(pattern, value[:300])))


_PATH_SCHEMA: dict[str, JsonValue] = {
    "pattern": _PATH,
    "maxLength": MAX_PATH_CHARACTERS,
    "not": {"pattern": _DOTS},
}
UrlPath = Annotated[str, AfterValidator(_path), Field(json_schema_extra=_PATH_SCHEMA)]
"""A string that is a path, beginning with a slash; one at its end does not matter."""
FileName = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": _FILE_NAME})]
"""A string that is the plain name of a file."""
