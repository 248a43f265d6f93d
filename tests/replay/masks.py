"""Masks values that differ each time, or may differ: each is replaced with a word for its kind.

Sentences for people may be reworded, so only their presence counts. Times near now, ages,
ports, ids, versions and what is measured on this host differ each time. All else must be equal.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from tests.replay.asking import Answer

SENTENCES = frozenset({"message", "reason", "status_reason", "broken", "hint"})
MEASURED = frozenset({"longest_outage_s", "ratio", "residency_s"})
"""Numbers of a past that goes on."""
NUMBERS = frozenset({"cycle_s", "retry_after_s", "load_uncertainty_s"})
TEXTS = frozenset({"version", "config_dir"})
LISTS_OF_SENTENCES = frozenset({"warnings"})
TIMES = frozenset({
    *("at", "created_at", "expires_at", "from", "generated_at", "last_cycle_at", "last_seen", "sampled_at"),
    *("since", "timestamp", "to"),
})  # fmt: skip
PORTS = frozenset({"port", "sidecar_port"})
NOT_COMPARED = frozenset({"connection", "date", "server", "transfer-encoding"})
"""Headers of the server that we use, and of the moment."""
NEAR_S = 2 * 86_400
"""Further from now lies what hosts and files say."""
_REJECTION = {"name", "code", "reason"}
"""What these have without the sentence stands in one text, since most of all answers are such."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_IN_ETAG = re.compile(r'"[^"]+"')


def _tells_of_unknown(event: Mapping[str, Any]) -> bool:
    return "unknown" in (event["type"], event.get("before"))


class Masks:
    """Makes answers comparable. Texts that are named, ids of leases for instance, are shown by that name.

    `past` makes a moment of a past that was shifted to now again what it was, or None for one after it.
    """

    def __init__(self, past: Callable[[float], float | None] | None = None, *, has_new_events: bool) -> None:
        self._past, self._has_new_events = past, has_new_events
        self._names: dict[str, str] = {}
        self._ports: dict[int, str] = {}

    def name(self, text: str, name: str) -> None:
        """Show `name` wherever that text stands."""
        self._names[text] = f"<{name}>"

    def name_port(self, port: int, name: str) -> None:
        """Show `name` wherever that port stands."""
        self._ports[port] = f"<{name}>"

    def text(self, text: str) -> str:
        """A text with all names in place of what they stand for."""
        for one, name in self._names.items():
            text = text.replace(one, name)
        return re.sub(r"(?<![\d.])\d{4,5}(?![\d.])", self._port, text)

    def _port(self, match: re.Match[str]) -> str:
        return self._ports.get(int(match[0]), match[0])

    def answer(self, answer: Answer, path: str) -> dict[str, Any]:
        """Status, headers and body as they are recorded."""
        headers = {name: self._header(name, value) for name, value in answer.headers}
        kept = {name: value for name, value in sorted(headers.items()) if name not in NOT_COMPARED}
        return {"status": answer.status, "headers": kept, "body": self._body(answer, path)}

    def _header(self, name: str, value: str) -> str:
        if name == "content-length":
            return "<bytes>"
        if name == "retry-after":
            return "<seconds>"
        if name == "etag":
            return _IN_ETAG.sub('"<etag>"', value)
        if name in ("allow", "vary"):
            return ", ".join(sorted(value.split(", ")))
        return self.text(value)

    def _body(self, answer: Answer, path: str) -> Any:
        kind = dict(answer.headers).get("content-type", "").partition(";")[0]
        if not answer.body:
            return None
        if kind == "application/json":
            is_measured = answer.status == 200 and path.startswith("/api/system")
            return self._measured(answer.json) if is_measured else self._json(answer.json)
        if kind == "text/csv":
            return self._csv(answer.text.splitlines())
        if kind == "application/yaml":
            return [self.text(line) for line in answer.text.splitlines()]
        return "<content>"

    def _csv(self, lines: list[str]) -> list[str]:
        """All lines of what is over; of what goes on only the head."""
        if self._past is None:
            return lines[:1]
        return [_RFC3339.sub(lambda match: self._time(match[0]), line) for line in lines]

    def _json(self, value: Any, key: str = "", parent: str = "") -> Any:
        if isinstance(value, Mapping):
            if key == "last_loaded" and self._past is None:
                return {one: f"<{one}>" for one in value}  # of several that hold it now, any may be last
            if value.keys() == _REJECTION and value["reason"]:
                return f"{value['name']}: {value['code']}"
            return {one: self._json(inner, one, key) for one, inner in value.items()}
        if isinstance(value, list):
            if key == "points":
                return self._points(value)
            if key == "events" and self._has_new_events:
                value = self._steady(value)
            if key in LISTS_OF_SENTENCES:
                return "<sentences>"
            return [self._json(one, key, parent) for one in value]
        return self._scalar(value, key, parent)

    def _scalar(self, value: Any, key: str, parent: str) -> Any:
        if isinstance(value, str):
            if key in SENTENCES and value and parent != "gpu_unreadable":
                return "<sentence>"
            if key in TEXTS:
                return f"<{key}>"
            return self._time(value) if key in TIMES and _RFC3339.fullmatch(value) else self.text(value)
        if isinstance(value, bool) or value is None:
            return value
        if key in PORTS:
            return self._ports.get(value, value)
        is_measured = key in NUMBERS or (self._past is None and (key in MEASURED or parent == "seconds"))
        if is_measured:
            return "<number>"
        if key in ("id", "next", "newest") and self._has_new_events:
            return "<id>"
        return value

    def _points(self, points: list[list[float]]) -> list[Any]:
        """Those of a past as they were; of what goes on only the different values, without their number."""
        if self._past is not None:
            return [[self._past(at), *rest] for at, *rest in points]
        return [list(values) for values in sorted({tuple(point[1:4]) for point in points})]

    def _steady(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Without new ones of a server that was held up, and in one order where several have one moment."""
        kept = [one for one in events if not self._is_new(one["at"]) or not _tells_of_unknown(one)]
        alike = groupby(kept, lambda one: (one["at"], one["machine"], one["type"]))
        return [one for _, some in alike for one in sorted(some, key=lambda one: json.dumps(one | {"id": 0}))]

    def _is_new(self, text: str) -> bool:
        return self._past is None or self._past(datetime.fromisoformat(text).timestamp()) is None

    def _time(self, text: str) -> str:
        at = datetime.fromisoformat(text).timestamp()
        if self._past is not None:
            was = self._past(at)
            if was is None:
                return "<time>"
            return datetime.fromtimestamp(was, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return "<time>" if abs(at - time.time()) < NEAR_S else text

    def _measured(self, value: Any) -> Any:
        """Only of which kind each value is."""
        if isinstance(value, Mapping):
            return {key: self._measured(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._measured(one) for one in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return "<time>" if _RFC3339.fullmatch(value) else "<text>"
        return "<number>"
