"""Answers GET /metrics and GET /health from the latest sample, without touching the hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote

from sidecar import __version__
from sidecar.hosts import HostRule
from sidecar.payload import to_json
from sidecar.sampler import EncodedSample, Sampler

if TYPE_CHECKING:
    from sidecar.authentication import Authentication

JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; header names are in lower case, repeated headers are joined by commas."""

    method: str
    target: str
    headers: Mapping[str, str]
    version: str = "1.1"
    body_sha256: str | None = None
    """The hash of the body, in lower-case hex; None if it has none, or no hash is needed."""


class Digest(Protocol):
    """A hash that bytes are added to."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes, in lower-case hex."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response: status, body and content type."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE


class App:
    """Answers from one sampler; `hosts` says which Host names are answered, `authentication` to whom."""

    def __init__(
        self, sampler: Sampler, hosts: HostRule, authentication: Authentication | None = None
    ) -> None:
        self._sampler = sampler
        self._hosts = hosts
        self._authentication = authentication
        self._health = to_json({"status": "ok", "service": "machines-sidecar", "version": __version__})

    def body_digest(self) -> Digest | None:
        """The hash object for the body of a request; None if no hash is needed."""
        return None if self._authentication is None else self._authentication.body_digest()

    def answer(self, request: Request) -> Response:
        """The response to a request; that to HEAD has the body that GET would have."""
        refusal = self._hosts.refusal(request.target, request.headers, request.version)
        if refusal is not None:
            return error(*refusal)
        target = request.target
        if not target.startswith("/"):
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        is_open = path == "/health" and request.method == "GET"
        if self._authentication is not None and not is_open:
            unauthorized = self._authentication.refusal(request)
            if unauthorized is not None:
                return _unauthorized(*unauthorized)
        path = unquote(path)
        if path not in ("/metrics", "/health"):
            return error(404, "not_found", "There is no such path; use GET /metrics or GET /health.")
        if request.method != "GET":
            return error(405, "method_not_allowed", f"{path} takes only GET.")
        if path == "/health":
            return Response(200, self._health)
        return self._metrics(request.headers.get("accept", ""), query)

    def _metrics(self, accept: str, query: str) -> Response:
        if self._sampler.is_stalled:
            message = "The thread that reads this host is stuck; restart the sidecar if this lasts."
            return error(503, "sampler_stalled", message)
        taken = self._sampler.latest
        if taken is None:
            return error(503, "starting", "The first sample is being taken; ask again in a second.")
        if "format=json" in query.split("&") or JSON_TYPE in accept.lower():
            return Response(200, taken.body)
        return _text(taken, accept)


def _text(taken: EncodedSample, accept: str) -> Response:
    from sidecar.exposition import render

    return Response(200, *render(taken.sample, accept))


def _unauthorized(status: int, reason: str, message: str) -> Response:
    return Response(status, to_json({"error": "unauthorized", "reason": reason, "message": message}))


def error(status: int, code: str, message: str) -> Response:
    """An error response in JSON_TYPE."""
    return Response(status, to_json({"error": code, "message": message}))
