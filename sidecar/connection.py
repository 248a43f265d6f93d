"""One client's connection: h11 parses the requests, timers of the event loop enforce the deadlines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal, cast

import h11

from sidecar.app import App, Digest, Request, Response, error
from sidecar.connection_limit import ConnectionLimit, Slot

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16384
MAX_REQUEST_BODY_BYTES = 65536
RESPONSE_HEADERS = (
    "Cache-Control: no-store\r\n"
    "Vary: Accept\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)
PARSE_ERRORS = {
    400: (
        "bad_request",
        "This is not an HTTP/1.1 request: send a request line, one Host, headers NAME: VALUE.",
    ),
    431: ("head_too_large", f"Request line and headers may have at most {MAX_HEAD_BYTES} bytes together."),
    501: ("unknown_coding", "The only supported Transfer-Encoding is chunked."),
}
BODY_TOO_LARGE = error(
    413, "body_too_large", f"A body may have at most {MAX_REQUEST_BODY_BYTES} bytes, and none is needed here."
)
TOO_SLOW = error(408, "too_slow", "The request did not arrive in time; send it in one piece.")
INTERNAL_ERROR = error(500, "internal_error", "The sidecar failed to answer; its log says why.")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the server waits for a client, in seconds, and how slow a client may be.

    `head_s` is for a whole request head, `idle_s` between requests, `grace_s` for a body or the reading of an
    answer beyond what `min_bytes_per_s` allows, `linger_s` for the client to close after the last answer.
    """

    head_s: float = 10
    idle_s: float = 75
    grace_s: float = 5
    min_bytes_per_s: float = 1000
    linger_s: float = 2


class Connection(asyncio.Protocol):
    """Waits for one thing at a time, with one timer as the deadline.

    It sends one response per iteration of the event loop, and none before the client has read the previous
    one, so that no client delays the others or fills the memory.
    """

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, app: App, limits: Limits, connections: ConnectionLimit, slot: Slot) -> None:
        self._app, self._limits, self._connections, self._slot = app, limits, connections, slot
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self._request: Request | None = None
        self._waits_for: Literal["head", "body", "next head"] = "head"
        self._body_bytes = 0
        self._body_digest: Digest | None = None
        self._body_since = 0.0
        self._is_blocked = False
        self._is_last = False
        self._is_at_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(self._limits.head_s, self._head_timed_out)
        self._transport.set_write_buffer_limits(high=1)  # with TLS, 0 would mean always full

    def connection_lost(self, _error: Exception | None) -> None:
        self._timer.cancel()
        self._connections.remove(self._slot)

    def data_received(self, data: bytes) -> None:
        if self._is_last:
            return
        self._http.receive_data(data)
        if self._is_blocked:
            self._transport.pause_reading()
        self._process()

    def eof_received(self) -> bool:
        """Return whether to keep our direction open for responses that are still to be written."""
        self._is_at_end = True
        if self._is_last:
            return False
        self._http.receive_data(b"")
        self._process()
        return self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """The client is slow to read; the next request is not read before it has caught up."""
        self._is_blocked = True
        left = self._transport.get_write_buffer_size()
        self._wait(self._limits.grace_s + left / self._limits.min_bytes_per_s, self._transport.abort)

    def resume_writing(self) -> None:
        self._is_blocked = False
        if self._transport.is_closing():
            return
        if self._is_last:
            self._transport.resume_reading()
            self._wait(self._limits.linger_s, self._transport.abort)
        else:
            self._wait_for_head()

    def _process(self) -> None:
        """Handle what was received, up to the end of one response."""
        if self._is_blocked or self._is_last or self._transport.is_closing():
            return
        try:
            while not self._handle(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as fault:
            status = fault.error_status_hint if fault.error_status_hint in PARSE_ERRORS else 400
            self._answer_and_close(error(status, *PARSE_ERRORS[status]))

    def _handle(self, event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]) -> bool:
        """Handle one event; returns whether this iteration is done."""
        if isinstance(event, h11.Request):
            self._handle_head(event)
        elif isinstance(event, h11.Data):
            self._body_bytes += len(event.data)
            if self._body_digest is not None:
                self._body_digest.update(event.data)
            if self._body_bytes > MAX_REQUEST_BODY_BYTES:
                self._answer_and_close(BODY_TOO_LARGE)
        elif isinstance(event, h11.EndOfMessage) and self._request is not None:
            digest = self._body_digest
            body_sha256 = digest.hexdigest() if digest is not None and self._body_bytes else None
            self._finish_request(self._answer(replace(self._request, body_sha256=body_sha256)))
            return True
        elif event is h11.NEED_DATA:
            self._wait_for_rest()
            return True
        else:
            self._transport.close()
        return self._is_last or self._transport.is_closing()

    def _handle_head(self, head: h11.Request) -> None:
        """Handle the head of a request; a client that waits for 100 Continue is answered without its body."""
        self._request = request = _request(head)
        self._body_bytes, self._body_digest = 0, self._app.body_digest()
        if _bytes_of(head) > MAX_HEAD_BYTES:
            self._answer_and_close(error(431, *PARSE_ERRORS[431]))
        elif int(request.headers.get("content-length", "0")) > MAX_REQUEST_BODY_BYTES:
            self._answer_and_close(BODY_TOO_LARGE)
        elif self._http.they_are_waiting_for_100_continue:
            self._answer_and_close(self._answer(request))

    def _answer(self, request: Request) -> Response:
        try:
            return self._app.answer(request)
        except Exception:  # an unexpected one must not end the server
            log.exception("%s could not be answered", request.target)
            return INTERNAL_ERROR

    def _finish_request(self, answer: Response) -> None:
        """Respond, and prepare for the next request unless this one was the last."""
        if self._http.their_state is not h11.DONE:
            self._answer_and_close(answer)
            return
        self._send(answer)
        rest, _ = self._http.trailing_data
        self._http = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        if rest:
            self._http.receive_data(rest)
        if self._is_at_end:
            self._http.receive_data(b"")
        self._request = None
        self._waits_for = "next head"
        self._connections.mark_answered(self._slot)
        if not self._is_blocked:
            self._wait_for_head()

    def _answer_and_close(self, answer: Response) -> None:
        self._send(answer, "Connection: close\r\n")
        self._shut_down_writing()

    def _send(self, answer: Response, more_headers: str = "") -> None:
        head = _head(answer, more_headers)
        is_bare = self._request is not None and self._request.method == "HEAD"
        self._transport.write(head if is_bare else head + answer.body)

    def _shut_down_writing(self) -> None:
        """Close our direction and linger: closing at once could destroy the response before it is read."""
        self._is_last = True
        if self._is_at_end or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        if not self._is_blocked:
            self._wait(self._limits.linger_s, self._transport.abort)

    def _wait_for_head(self) -> None:
        if self._waits_for == "next head":
            self._wait(self._limits.idle_s, self._transport.close)
        else:
            self._wait(self._limits.head_s, self._head_timed_out)
        rest, _ = self._http.trailing_data
        if rest or self._is_at_end:
            self._transport.pause_reading()
            self._loop.call_soon(self._resume_reading)

    def _resume_reading(self) -> None:
        """Handle what arrived before the previous response was read."""
        if not self._is_at_end:
            self._transport.resume_reading()
        self._process()

    def _wait_for_rest(self) -> None:
        """Set the deadline for the rest of a head or a body."""
        if self._request is None and self._waits_for == "next head":
            self._waits_for = "head"
            self._wait(self._limits.head_s, self._head_timed_out)
        elif self._request is not None and self._waits_for != "body":
            self._waits_for = "body"
            self._body_since = self._loop.time()
            self._wait(self._limits.grace_s, self._check_body)

    def _head_timed_out(self) -> None:
        if self._http.trailing_data[0]:
            self._answer_and_close(TOO_SLOW)
        else:
            self._transport.close()

    def _check_body(self) -> None:
        due = self._body_since + self._limits.grace_s + self._body_bytes / self._limits.min_bytes_per_s
        left_s = due - self._loop.time()
        if left_s > 0:
            self._wait(left_s, self._check_body)
        else:
            self._answer_and_close(TOO_SLOW)

    def _wait(self, for_s: float, then: Callable[[], object]) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(for_s, then)


def _head(answer: Response, more_headers: str) -> bytes:
    """The status line and headers; h11 takes longer to write them than to parse a request."""
    status = HTTPStatus(answer.status)
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        more_headers += "Allow: GET\r\n"
    return (
        f"HTTP/1.1 {status} {status.phrase}\r\n"
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        f"{RESPONSE_HEADERS}{more_headers}\r\n"
    ).encode("latin-1")


def _request(head: h11.Request) -> Request:
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return Request(
        head.method.decode("latin-1"),
        head.target.decode("latin-1"),
        headers,
        head.http_version.decode("latin-1"),
    )


def _bytes_of(head: h11.Request) -> int:
    headers = sum(len(name) + len(value) + len(": \r\n") for name, value in head.headers)
    return len(head.method) + len(head.target) + len("  HTTP/1.1\r\n") + headers
