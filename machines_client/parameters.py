"""The parameters of every question, which have the same names in HTTP, here and on the command line."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from math import isfinite
from typing import Any, TypedDict

from machines_client.errors import BadRequest
from machines_client.keywords import unknown_keyword

Texts = str | Iterable[str]
"""One text or many."""
Moment = str | float | datetime
"""RFC 3339, epoch seconds, `now`, `-90s`, `-24h`, `-7d`, `-2w`, or a datetime with a time zone."""


class Constraints(TypedDict, total=False):
    """What a machine must have, and who asks; None means the same as leaving a parameter out.

    `where` maps paths in the machine's file to values, or lists texts `key.path:value`. `docs/routing.md` of
    machines-server describes every parameter.
    """

    min_free_vram_gb: float | None
    min_free_ram_gb: float | None
    min_context: int | None
    role: str | None
    tag: Texts | None
    exclude: Texts | None
    where: Mapping[str, object] | Texts | None
    cold: bool | None
    exclusive: bool | None
    holder: str | None
    wait_s: float | None


class RouteOptions(Constraints, total=False):
    """The parameters of advice; with `explain` it does not count in later advice."""

    explain: bool | None


class LeaseOptions(Constraints, total=False):
    """The parameters of a lease, which lasts `ttl_s` seconds unless it is renewed."""

    ttl_s: float | None


class RangeOptions(TypedDict, total=False):
    """A range of time."""

    from_: Moment | None
    to: Moment | None


class SeriesOptions(RangeOptions, total=False):
    """Metrics by name; `step` is in seconds or `auto`; `gpu` has indices or UUIDs."""

    metric: Texts | None
    step: str | int | None
    gpu: str | int | Iterable[str | int] | None


class EventOptions(RangeOptions, total=False):
    """Which events, and where to continue: `after` and `before` take an id or the `next` of a page."""

    machine: Texts | None
    type: Texts | None
    limit: int | None
    after: int | str | None
    before: int | str | None
    wait_s: float | None


NEEDS_MODEL = "A lease needs the name of a model, such as llama3.1:70b."

Value = str | int | float | bool | list[str]
Check = Callable[[str, Any], Value]
"""Converts a keyword's value to HTTP; raises TypeError or BadRequest."""


def _wrong(name: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{name} must be {expected}, not {value!r}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


def _filled(name: str, value: object) -> str:
    text = _text(name, value)
    if not text:
        raise BadRequest(
            f"The parameter {name} is empty; leave it out, or give None, to ask without it.", name
        )
    return text


def _texts(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping | bytes) or not isinstance(value, str | Iterable):
        raise _wrong(name, "a string or several", value)
    return [_filled(name, one) for one in ([value] if isinstance(value, str) else value)]


def _conditions(name: str, value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        return _texts(name, value)
    for path, wanted in value.items():
        if not isinstance(path, str) or not isinstance(wanted, str | int | float | None):
            raise _wrong(name, "a mapping of paths to strings, numbers, booleans or None", value)
        if ":" in path:
            raise BadRequest(
                f"The path {path} in {name} has a colon, which separates paths from values.", name
            )
    texts = {path: one if isinstance(one, str) else json.dumps(one) for path, one in value.items()}
    return [f"{path}:{text}" for path, text in texts.items()]


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "a number", value)
    try:
        is_finite = isfinite(value)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise BadRequest(f"The parameter {name} is not a finite number.", name)
    return value


def _seconds_to_wait(name: str, value: object) -> float:
    if (seconds := _number(name, value)) < 0:
        raise BadRequest(
            f"The parameter {name} cannot be used: input should be greater than or equal to 0.", name
        )
    return seconds


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "a whole number", value)
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)
    return value


def _moment(name: str, value: object) -> str | float:
    if isinstance(value, str):
        return _filled(name, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(name, value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _wrong(name, "a datetime with a time zone, epoch seconds, or a string such as `-24h`", value)
    return value.isoformat()


def _commas(name: str, value: Any) -> str:
    """Several values as one text."""
    many = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return ",".join(str(_name_or_number(name, one)) for one in many)


def _name_or_number(name: str, value: object) -> str | int:
    return _filled(name, value) if isinstance(value, str) else _whole(name, value)


def _model_of_lease(name: str, value: object) -> str:
    if _text(name, value) == "":
        raise BadRequest(NEEDS_MODEL, name)
    return str(value)


CONSTRAINTS: dict[str, Check] = {
    "model": _filled,
    "min_free_vram_gb": _number,
    "min_free_ram_gb": _number,
    "min_context": _whole,
    "role": _filled,
    "tag": _texts,
    "exclude": _texts,
    "where": _conditions,
    "cold": _flag,
    "exclusive": _flag,
    "holder": _text,
    "wait_s": _seconds_to_wait,
}
"""The parameters that advice and leases share."""
ROUTE = {**CONSTRAINTS, "explain": _flag}
LEASE = {**CONSTRAINTS, "model": _model_of_lease, "ttl_s": _number}
RENEW: dict[str, Check] = {"ttl_s": _number}
RANGE: dict[str, Check] = {"from": _moment, "to": _moment}
SERIES: dict[str, Check] = {**RANGE, "metric": _commas, "step": _name_or_number, "gpu": _commas}
SEVERAL_SERIES: dict[str, Check] = {**SERIES, "machine": _texts}
EVENTS: dict[str, Check] = {
    **RANGE,
    "machine": _texts,
    "type": _texts,
    "limit": _whole,
    "after": _name_or_number,
    "before": _name_or_number,
    "wait_s": _seconds_to_wait,
}


def parameters(
    table: Mapping[str, Check], given: Mapping[str, object], beside: Iterable[str] = ()
) -> dict[str, Value]:
    """Keywords as HTTP parameters; raises TypeError for an unknown one or a value of a wrong type.

    Those that are None are left out. `beside` names the caller's other keywords, for the error.
    """
    checked: dict[str, Value] = {}
    for keyword, value in given.items():
        name = "from" if keyword == "from_" else keyword
        if name not in table:
            raise unknown_keyword(keyword, (*table, *beside))
        if value is not None:
            checked[name] = table[name](keyword, value)
    return checked


def take_wait_s(checked: dict[str, Value]) -> float:
    """Take `wait_s` out of checked parameters; 0 if it is not there."""
    wait_s = checked.pop("wait_s", 0.0)
    return float(wait_s) if isinstance(wait_s, int | float) else 0.0
