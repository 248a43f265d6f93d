"""Checks of the arguments that are not parameters of HTTP; all raise TypeError or ValueError."""

from collections.abc import Mapping
from typing import Any

MAX_TIMEOUT_S = 86_400.0


def checked_timeout_s(name: str, value: float) -> float:
    """A number of seconds above 0 and at most a day."""
    if not 0 < _number(name, value) <= MAX_TIMEOUT_S:
        raise ValueError(f"{name} takes seconds above 0 and at most {MAX_TIMEOUT_S:.0f}, not {value!r}")
    return value


def checked_retries(value: int) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"retries takes a whole number, not {value!r}")
    if value < 0:
        raise ValueError(f"retries takes a number from 0, not {value!r}")
    return value


def checked_stale_s(value: float) -> float:
    """A number of seconds from 0, also without end."""
    if not _number("stale_s", value) >= 0:
        raise ValueError(f"stale_s takes seconds from 0, not {value!r}")
    return value


def checked_path(path: str, query: Mapping[str, Any] | None) -> str:
    """A path on the server."""
    if not isinstance(path, str):
        raise TypeError(f"path takes a text such as /api/machines, not {path!r}")
    if not path.startswith("/"):
        raise ValueError(f"a path must begin with /, as /api/machines does, and not be {path!r}")
    if query is not None and not isinstance(query, Mapping):
        raise TypeError(f"query takes a mapping of names to values, not {query!r}")
    return path


def checked_name(name: str) -> str:
    """The name of a machine."""
    if not isinstance(name, str):
        raise TypeError(f"name takes the name of a machine, not {name!r}")
    if not name:
        raise ValueError("name takes the name of a machine, and must not be empty")
    return name


def checked_callback(name: str, value: object) -> None:
    """A function, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} takes a function, not {value!r}")


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} takes a number of seconds, not {value!r}")
    return value
