"""Reads JSON from hosts: an impossible value is noted and becomes unknown, the rest is kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from machines_server.core import reasons
from machines_server.core.reasons import Reason
from machines_server.core.text import clip, printable
from machines_server.errors import BadAnswerError

MAX_VALUE_CHARACTERS = 512
_SHOWN, _KEPT = 3, 100
_MAX_NUMBER = 2**63 - 1


@dataclass(slots=True)
class Oddities:
    """The odd values in one answer; as text, the first few and the number of others."""

    kinds: set[str] = field(default_factory=set)
    """The odd fields, without the number of the entry: `gpu[].utilisation`."""
    count: int = 0
    _texts: list[str] = field(default_factory=list)

    def note(self, kind: str, text: str) -> None:
        """Add one; `kind` must not contain text from the host."""
        self.kinds.add(kind)
        self.count += 1
        if len(self._texts) < _KEPT:
            self._texts.append(text)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        shown = sorted(self._texts)[:_SHOWN]  # sorted, since hosts list their models in any order
        more = f"; and {self.count - len(shown)} more" if self.count > len(shown) else ""
        return f"invalid, so shown as unknown: {'; '.join(shown)}{more}" if shown else ""


@dataclass(slots=True)
class Fields:
    """Reads the fields of one JSON object: None for what is missing or odd; odd values are noted."""

    raw: dict[str, Any]
    oddities: Oddities
    kind: str = ""
    """The list that has the object, such as `gpu[].`."""
    at: str = ""
    """The entry, such as `gpu[3].`."""

    def note(self, key: str, oddity: str) -> None:
        """Note what is odd about a field."""
        self.oddities.note(self.kind + key, f"{self.at}{key}: {oddity}")

    def number(self, key: str, *, most: float = _MAX_NUMBER, whole: bool = False) -> Any:
        """A number from 0 to `most`."""
        return self.checked(key, self.raw.get(key), most=most, whole=whole)

    def checked(self, key: str, value: object, *, most: float, whole: bool = False) -> Any:
        """The given value of a field, or part of one, if it is a number from 0 to `most`."""
        if value is None:
            return None
        if type(value) is not int and (whole or type(value) is not float):
            self.note(key, f"{short(value)} is not a{' whole' if whole else ''} number")
            return None
        if not 0 <= value <= most:
            self.note(key, f"{short(value)} is out of range")
            return None
        return value

    def name(self, key: str) -> str | None:
        """A text used as a name, without control characters."""
        text = self._text(key)
        if text is not None and not text.isprintable():
            self.note(key, f"{short(text)} has control characters")
            return None
        return text

    def required_name(self, key: str) -> str | None:
        """Like `name`, but a missing value is odd, too."""
        if self.raw.get(key) is None:
            self.note(key, "missing")
        return self.name(key)

    def description(self, key: str) -> str | None:
        """A text for people, with control characters escaped."""
        text = self._text(key)
        return None if text is None else printable(text)

    def entries(self, key: str, most: int) -> Iterator["Fields"]:
        """The objects of a list; an entry that is not an object has no fields.

        Raises BadAnswerError unless it is a list of at most `most` entries.
        """
        values = self.raw.get(key, [])
        if not isinstance(values, list):
            raise BadAnswerError(Reason(f"{key}: not a list of objects"))
        if len(values) > most:
            raise BadAnswerError(Reason(f"{key}: {len(values)} entries, more than {most}"))
        for number, value in enumerate(values):
            raw = value if isinstance(value, dict) else {}
            yield Fields(raw, self.oddities, f"{key}[].", f"{key}[{number}].")

    def _text(self, key: str) -> str | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            self.note(key, f"{short(value)} is not a non-blank string")
            return None
        if len(value) > MAX_VALUE_CHARACTERS:
            self.note(key, f"longer than {MAX_VALUE_CHARACTERS} characters")
            return None
        return value


def json_object(body: bytes) -> Fields:
    """Parse a body as a JSON object; raises BadAnswerError."""
    if body.startswith(b"\x1f\x8b"):
        raise BadAnswerError(reasons.COMPRESSED)
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadAnswerError(_why_no_json(body, error.msg)) from None
    if not isinstance(raw, dict):
        raise BadAnswerError(reasons.NO_OBJECT)
    return Fields(raw, Oddities())


def _why_no_json(body: bytes, message: str) -> Reason:
    """Why a body is not JSON; `message` is that of the parser."""
    begin = body.lstrip()[:1]
    if begin == b"<":
        return reasons.HTML
    if body.startswith((b"# HELP ", b"# TYPE ")):
        return reasons.PROMETHEUS
    try:
        body.decode()
    except UnicodeDecodeError:
        if begin not in (b"{", b"["):
            text = "no valid JSON, perhaps a compressed answer, which was not asked for"
            return Reason(text, reasons.NO_JSON)
    text = f"no valid JSON ({message})"
    return Reason(text) if begin == b"{" else Reason(text, reasons.NO_JSON)  # it may well be the right server


def short(value: object) -> str:
    """A JSON value, shortened for a message."""
    if isinstance(value, list | dict):  # its repr may be huge, or exceed Python's recursion limit
        return "a list" if isinstance(value, list) else "an object"
    return clip(repr(value), 40)
