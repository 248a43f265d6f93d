"""Makes dataclasses of the JSON of answers."""

from collections.abc import Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from machines_client.errors import ClientError

T = TypeVar("T")

_KEY = "key"


def keyed(key: str, default: Any = MISSING) -> Any:
    """A field whose key in the JSON has another name."""
    return field(default=default, metadata={_KEY: key})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of the server, or a part of one.

    Every key of the JSON is an attribute of the same name, except that `from` is `from_`. Those of optional
    keys are None or empty if the key is absent.
    """

    body: Mapping[str, Any] = field(repr=False, compare=False)
    """The JSON itself, which may have further keys if the server is newer than this client."""
    age_s: float = field(default=0.0, compare=False, repr=False)
    """0, unless the server is unavailable and this is its last known answer: then its age in seconds."""


def decode(kind: type[T], value: object, what: str = "", *, age_s: float = 0.0) -> T:
    """A dataclass from an object of JSON, whose unknown keys are ignored; raises ClientError.

    `what` names the value in errors.
    """
    if not isinstance(value, Mapping):
        raise ClientError(f"{what or 'the answer'} is not a JSON object: is this a machines-server?")
    values: dict[str, object] = {}
    for one, hint in _fields(cast(Hashable, kind)):
        key = one.metadata.get(_KEY, one.name)
        if one.name == "body" and issubclass(kind, Answer):
            values["body"] = value
        elif one.name == "age_s" and issubclass(kind, Answer):
            values["age_s"] = age_s
        elif key in value:
            values[one.name] = _converted(hint, value[key], key, age_s)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise ClientError(f"the answer has no {key}: is this a machines-server?")
    return kind(**values)


@cache
def _fields(kind: Any) -> list[tuple[Field[Any], Any]]:
    hints = get_type_hints(kind)
    return [(one, hints[one.name]) for one in fields(kind)]


def _converted(hint: Any, value: object, key: str, age_s: float) -> object:
    origin = get_origin(hint)
    if origin is UnionType:
        if value is None and NoneType in get_args(hint):
            return None
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
        return _converted(hint, value, key, age_s)
    if origin is tuple and isinstance(value, list):
        (item, _) = get_args(hint)
        return tuple(_converted(item, one, key, age_s) for one in value)
    if is_dataclass(hint):
        return decode(cast(type, hint), value, key, age_s=age_s)
    if hint is Any or _fits(origin or hint, value):
        return value
    if isinstance(value, list) and hasattr(hint, "_fields") and len(hint._fields) <= len(value):
        return hint(*value[: len(hint._fields)])
    raise ClientError(f"the answer has no {key} of the expected form: is this a machines-server?")


def _fits(kind: Any, value: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) and kind is not tuple
