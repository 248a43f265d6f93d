"""Requests and replies, without the library that sends them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from machines_client.decoding import decode
from machines_client.errors import (
    BadRequest,
    ClientError,
    Forbidden,
    LeaseLost,
    NoMachine,
    Rejection,
    ServerUnavailable,
    TooMany,
    Unauthorized,
    UnknownMachine,
)
from machines_client.parameters import Value
from machines_client.tracing import trace_headers
from machines_client.version import VERSION

MAX_ANSWER_BYTES = 64 * 2**20
"""The size beyond which an answer is not read."""
CLIENT_HEADER = {"Sec-Machines-Client": f"machines-client/{VERSION}"}
"""No script of a web page can send this header, so the server answers under any host name."""


@dataclass(frozen=True)
class Request:
    """One request; `wait_s` is how long the server may wait before it answers."""

    method: str
    path: str
    query: Mapping[str, Value] = field(default_factory=dict)
    body: Mapping[str, Value] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    is_repeatable: bool = False
    """Whether sending it twice does no harm."""
    is_kept: bool = False
    """Whether its last known answer is useful while the server is away."""
    good: tuple[int, ...] = ()
    """Statuses besides 2xx that are answers, not errors."""

    def waiting(self, wait_s: float) -> Self:
        """The same request with another time to wait."""
        return replace(self, wait_s=round(max(wait_s, 0.0), 3))

    @property
    def target(self) -> str:
        """The path with the query."""
        query = dict(self.query)
        if self.wait_s and self.body is None:
            query["wait_s"] = self.wait_s
        texts = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()
        }
        separator = "&" if "?" in self.path else "?"
        return f"{self.path}{separator}{urlencode(texts, doseq=True)}" if texts else self.path

    @property
    def content(self) -> bytes | None:
        """The body."""
        if self.body is None:
            return None
        return json.dumps({**self.body, **({"wait_s": self.wait_s} if self.wait_s else {})}).encode()

    @property
    def all_headers(self) -> dict[str, str]:
        """Its headers and ours."""
        kind = {} if self.body is None else {"Content-Type": "application/json"}
        return {**CLIENT_HEADER, **trace_headers(), **kind, **self.headers}


class Reply(NamedTuple):
    """A reply; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Collector:
    """Puts the parts of an answer together; raises ClientError if they are too large."""

    def __init__(self, url: str) -> None:
        self._url, self._content = url, bytearray()

    def add(self, part: bytes) -> None:
        """Append a part."""
        self._content += part
        if len(self._content) > MAX_ANSWER_BYTES:
            raise ClientError(f"{self._url} answers with more than {MAX_ANSWER_BYTES // 2**20} MiB")

    def content(self) -> bytes:
        """The whole answer."""
        return bytes(self._content)


def good_content(request: Request, reply: Reply, url: str) -> bytes:
    """The content of a reply; raises the ClientError for one that is an error or a redirect."""
    if 200 <= reply.status < 300 or reply.status in request.good:
        return reply.content
    if 300 <= reply.status < 400:
        place = reply.headers.get("location", "another place")
        raise ClientError(
            f"{url} redirects to {place}, which is not followed; use the URL of the server itself"
        )
    raise _refusal(request, reply, url)


def json_object(content: bytes, url: str, path: str) -> dict[str, Any]:
    """The JSON object in a content; raises ClientError."""
    body = _json(content, url)
    if not isinstance(body, dict):
        raise ClientError(f"{url} is not a machines-server: {path} is not a JSON object")
    return body


@dataclass(frozen=True)
class _NoMachineBody:
    rejected: tuple[Rejection, ...] = ()
    retry_after_s: float | None = None
    did_you_mean: tuple[str, ...] | None = None


def _json(content: bytes, url: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ClientError(f"{url} is not a machines-server: it does not answer in JSON") from None


def _refusal(request: Request, reply: Reply, url: str) -> ClientError:
    status, retry_after_s = reply.status, _seconds(reply.headers.get("retry-after"))
    try:
        body = json.loads(reply.content)
    except (ValueError, RecursionError):
        body = None
    code, message = (body.get("error"), body.get("message")) if isinstance(body, dict) else (None, None)
    if not isinstance(code, str) or not isinstance(message, str):
        return _foreign_refusal(request, status, url, retry_after_s)
    if code == "not_found":
        return ClientError(f"{url} has no {request.path}: is this a machines-server? It says: {message}")
    if code == "no_machine":
        none = decode(_NoMachineBody, body)
        return NoMachine(
            message,
            none.rejected,
            body,
            retry_after_s=none.retry_after_s,
            did_you_mean=none.did_you_mean or (),
        )
    if code in ("unknown_lease", "lease_broken"):
        return LeaseLost(message)
    if code == "unknown_machine":
        return UnknownMachine(message)
    return _refusal_by_status(status, body, message, retry_after_s)


def _refusal_by_status(
    status: int, body: Mapping[str, Any], message: str, retry_after_s: float | None
) -> ClientError:
    if status == 401:
        return Unauthorized(message, _text_or_none(body.get("reason")))
    if status == 403:
        return Forbidden(message)
    if status in (400, 409, 413):
        return BadRequest(message, _text_or_none(body.get("parameter")))
    if status == 429:
        return TooMany(message, retry_after_s)
    kind = ServerUnavailable if status in (502, 503, 504) else ClientError
    return kind(message, retry_after_s)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _foreign_refusal(request: Request, status: int, url: str, retry_after_s: float | None) -> ClientError:
    """The error for a status that no machines-server sends: it comes from another server, or a proxy."""
    said = f"{url} answers {request.path} with HTTP status {status}"
    if status == 429:
        return TooMany(said, retry_after_s)
    if status in (502, 503, 504):
        return ServerUnavailable(said, retry_after_s)
    if status in (404, 405):
        return ClientError(
            f"{url} is not a machines-server: it answers {request.path} with HTTP status {status}"
        )
    return ClientError(f"{said}, unlike a machines-server: is the URL right?")


def _seconds(retry_after: str | None) -> float | None:
    """The seconds of a Retry-After header, which may be a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    return max((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
