"""Checks of the arguments that are not parameters of HTTP; all raise TypeError or ValueError."""

from collections.abc import Mapping
from typing import Any

MAX_TIMEOUT_S = 86_400.0


def checked_timeout_s(name: str, value: float) -> float:
    """A number of seconds above 0 and at most a day."""
    if not 0 < _number(name, value) <= MAX_TIMEOUT_S:
        raise ValueError(f"{name} must be above 0 and at most {MAX_TIMEOUT_S:.0f} seconds, not {value!r}")
    return value


def checked_retries(value: int) -> int:
    """An integer, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"retries must be an integer, not {value!r}")
    if value < 0:
        raise ValueError(f"retries must be 0 or more, not {value!r}")
    return value


def checked_stale_s(value: float) -> float:
    """A number of seconds, 0 or more; may be infinite."""
    if not _number("stale_s", value) >= 0:
        raise ValueError(f"stale_s must be 0 or more seconds, not {value!r}")
    return value


def checked_path(path: str, query: Mapping[str, Any] | None) -> str:
    """A path on the server."""
    if not isinstance(path, str):
        raise TypeError(f"path must be a string such as /api/machines, not {path!r}")
    if not path.startswith("/"):
        raise ValueError(f"path must begin with /, such as /api/machines; it is {path!r}")
    if query is not None and not isinstance(query, Mapping):
        raise TypeError(f"query must be a mapping of names to values, not {query!r}")
    return path


def checked_name(name: str) -> str:
    """The name of a machine."""
    if not isinstance(name, str):
        raise TypeError(f"name must be the name of a machine, not {name!r}")
    if not name:
        raise ValueError("name must not be empty")
    return name


def checked_callback(name: str, value: object) -> None:
    """A function, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    return value
