"""Limits on the number of connections, in total and per address, and deadlines for each of them.

gunicorn's protocol has a deadline for idle connections only. One timer of the event loop checks all of them
twice a second, so that requests need no timers of their own.
"""

import fcntl
import logging
import sys
import termios
import time
from collections.abc import Callable, Iterable
from mmap import mmap
from operator import attrgetter
from typing import Any, Protocol
from zlib import crc32

from gunicorn.asgi import protocol

from machines_server.contract.errors import error_json
from machines_server.core.hosts import Network, is_in_networks, unmapped_address
from machines_server.web.messages import JSON_TYPE

log = logging.getLogger(__name__)

HEADERS_TIMEOUT_S = 10.0
"""The deadline for a request line and all headers."""
MIN_BYTES_PER_S, PACE_SPAN_S = 1000, 10.0
"""The minimum rate at which a body must arrive and an answer be read, averaged over each span."""
MAX_UNSENT_BYTES = 2**29
"""The limit for all answers of a worker together."""
CHECK_INTERVAL_S = 0.5
_SLOTS = 4096
_MAX_KNOWN_ADDRESSES = 1000
_ERRORS = {
    400: ("bad_request", "This is not a valid HTTP request."),
    408: ("request_timeout", "The request did not arrive in time."),
    414: ("request_uri_too_long", "The request line is too long."),
    426: ("upgrade_required", "WebSockets are not supported."),
    429: ("too_many_connections", "This address has too many connections; close some."),
    431: ("request_header_fields_too_large", "The headers are too large, or too many."),
    501: ("not_implemented", "This transfer coding is not supported."),
    503: ("too_many_connections", "The server has too many connections; try again in a moment."),
}
protocol._REASON_PHRASES |= {421: "Misdirected Request", 431: "Request Header Fields Too Large"}
_INTERNAL = ("internal_error", "The server failed to answer; its log says why.")


class AddressCounts:
    """How many connections each address has to all workers, in shared memory allocated before the fork.

    Each worker has its own row, so that the counts of a killed worker can be cleared. Addresses with the same
    checksum, one in 4,096, share a count.
    """

    def __init__(self, rows: int) -> None:
        self._cells = memoryview(mmap(-1, rows * _SLOTS * 4)).cast("I")
        self._size = rows * _SLOTS

    def clear(self, row: int) -> None:
        """Clear the counts in a worker's row."""
        self._cells[row * _SLOTS : (row + 1) * _SLOTS] = memoryview(bytes(_SLOTS * 4)).cast("I")

    def add(self, row: int, address: str, number: int) -> None:
        """Add to the count of an address; a negative number subtracts."""
        self._cells[row * _SLOTS + _slot(address)] += number

    def of(self, address: str) -> int:
        """How many connections an address has."""
        return sum(self._cells[_slot(address) : self._size : _SLOTS])


def _slot(address: str) -> int:
    return crc32(address.encode()) % _SLOTS


class Counted(Protocol):
    """What counts as a connection; with TLS, this includes handshakes."""

    address: str
    idle_since: float

    @property
    def is_idle(self) -> bool:
        """Whether it may be ended to make room."""

    def check(self, now: float) -> int:
        """End it if it is too slow; returns the number of unsent bytes."""

    def end(self) -> None:
        """Close it once everything written has been sent."""

    def abort(self) -> None:
        """Close it at once."""


class Connections:
    """All connections of one worker."""

    def __init__(
        self,
        counts: AddressCounts,
        row: int,
        limit: int,
        limit_per_address: int,
        proxies: tuple[Network, ...] = (),
    ) -> None:
        """`limit` is for this worker, `limit_per_address` for all; `proxies` are exempt from the latter."""
        self._counts, self._row, self._limit, self._limit_per_address = counts, row, limit, limit_per_address
        self._proxies = proxies
        self._all: dict[Counted, None] = {}
        self._by_address: dict[str, dict[Counted, None]] = {}
        counts.clear(row)

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, new: Counted) -> int:
        """Add a connection, if need be by ending an idle one; returns 0, or the status of a refusal."""
        if len(self._all) >= self._limit and not self._make_room(self._all):
            return 503
        of_address = self._by_address.get(new.address, {})
        if self._is_at_limit(new.address) and not self._make_room(of_address):
            return 429
        self._all[new] = None
        self._by_address.setdefault(new.address, {})[new] = None
        self._counts.add(self._row, new.address, 1)
        return 0

    def remove(self, connection: Counted) -> None:
        """Remove a connection that has ended."""
        if connection not in self._all:
            return
        del self._all[connection]
        of_address = self._by_address[connection.address]
        del of_address[connection]
        if not of_address and len(self._by_address) > _MAX_KNOWN_ADDRESSES:
            del self._by_address[connection.address]
        self._counts.add(self._row, connection.address, -1)

    def check(self, now: float) -> None:
        """End connections that are too slow and, above MAX_UNSENT_BYTES, those with the most unsent bytes."""
        unsent = {connection: connection.check(now) for connection in list(self._all)}
        excess_bytes = sum(unsent.values()) - MAX_UNSENT_BYTES
        for connection in sorted(unsent, key=lambda connection: -unsent[connection]):
            if excess_bytes <= 0:
                return
            excess_bytes -= unsent[connection]
            connection.abort()

    def end_idle(self) -> None:
        """End the connections that await no answer."""
        for connection in list(self._all):
            if connection.is_idle:
                connection.end()

    def _make_room(self, among: Iterable[Counted]) -> bool:
        idle = (connection for connection in among if connection.is_idle)
        oldest = min(idle, key=attrgetter("idle_since"), default=None)
        if oldest is None:
            return False
        oldest.end()
        self.remove(oldest)
        return True

    def _is_at_limit(self, address: str) -> bool:
        if self._counts.of(address) < self._limit_per_address:
            return False
        return not is_in_networks(address, self._proxies)


class Connection(protocol.ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's protocol for one connection, with deadlines and with errors as JSON.

    tests/process/test_gunicorn.py lists the parts of gunicorn that it overrides and uses.
    """

    def __init__(self, worker: Any, connections: Connections) -> None:
        super().__init__(worker)
        self.address = ""
        self.idle_since = 0.0
        self.handshake: Counted | None = None
        """The handshake that was counted until TLS was established."""
        self._connections = connections
        self._now: Callable[[], float] = worker.loop.time
        self._is_refused = self._is_half_closed = self._has_tls = False
        self._headers_since: float | None = None
        self._body: _Pace | None = None
        self._answer: _Pace | None = None
        self._unsent = 0
        self._received_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request whose headers have arrived is being received or answered."""
        return self._current_request is None and not self._closed

    def connection_made(self, transport: Any) -> None:
        self._has_tls = transport.get_extra_info("sslcontext") is not None
        peer = transport.get_extra_info("peername")
        self.address = unmapped_address(peer[0]) if peer else ""
        self._headers_since = self.idle_since = self._now()
        if self.handshake:
            self._connections.remove(self.handshake)
        if status := self._connections.admit(self):
            self.transport, self._is_refused = transport, True
            self._send_error_response(status, "")
            transport.close()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._headers_since is None and self._current_request is None:
            self._headers_since = self._now()
        try:
            super().data_received(data)
        except Exception:  # bad bytes must cost only their sender's connection
            log.exception("a request could not be read")
            self._refuse(400)

    def eof_received(self) -> bool:
        """Keep the connection open for the answer to a request that has completely arrived."""
        is_waiting = not self._is_refused and self._current_request is not None and self._body is None
        self._is_half_closed = is_waiting and not self._has_tls  # TLS cannot be half closed
        return self._is_half_closed

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_refused:
            self._connections.remove(self)
            super().connection_lost(exc)

    def check(self, now: float) -> int:
        """End the connection if its client sends or reads too slowly; returns the number of unsent bytes."""
        is_late = self._headers_since is not None and now - self._headers_since > HEADERS_TIMEOUT_S
        if is_late or (self._body is not None and self._body.is_too_slow(now)):
            self._refuse(408)
        buffered: int = self.transport.get_write_buffer_size()
        unsent = buffered + _unacknowledged(self.transport)
        if not unsent:
            self._answer = None
        elif self._answer is None or unsent > self._unsent:
            self._answer = _Pace(now)
        else:
            self._answer.add(self._unsent - unsent)
            if self._answer.is_too_slow(now):
                self.transport.abort()
        self._unsent = unsent
        return buffered

    def end(self) -> None:
        """Close the connection once everything written has been sent."""
        self._keepalive_timeout()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _refuse(self, status: int) -> None:
        if not self._closed:
            self._headers_since = self._body = None
            self._send_error_response(status, "")
            self.end()

    def _on_headers_complete(self) -> bool:
        self._headers_since, self._body, self._received_at = None, _Pace(self._now()), time.monotonic()
        return bool(super()._on_headers_complete())

    def _build_http_scope(self, *given: Any) -> Any:
        """gunicorn's scope, plus `received_at` and `is_half_closed`.

        The first is when the headers arrived, by the monotonic clock; the second returns whether the client
        will send nothing more, which also happens when it has gone.
        """
        scope = super()._build_http_scope(*given)
        scope["received_at"] = self._received_at
        if self._has_tls:
            scope["scheme"] = "https"
        scope["is_half_closed"] = lambda: self._is_half_closed
        return scope

    def _on_body(self, chunk: bytes) -> None:
        if self._body is not None:
            self._body.add(len(chunk))
        super()._on_body(chunk)

    def _on_message_complete(self) -> None:
        self._body = None
        super()._on_message_complete()

    def _arm_keepalive_timer(self) -> None:
        self.idle_since = self._now()
        if self._is_half_closed:
            self.end()
        else:
            super()._arm_keepalive_timer()

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:  # noqa: ARG002  gunicorn's message
        """Send an error as JSON, instead of gunicorn's message, which quotes the request."""
        code, text = _ERRORS.get(status, _INTERNAL)
        body = error_json(code, text)
        lines = [f"HTTP/1.1 {status} {self._get_reason_phrase(status)}", f"Content-Type: {JSON_TYPE}"]
        lines += [f"Content-Length: {len(body)}", "X-Content-Type-Options: nosniff", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in extra_headers]
        self._safe_write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def _unacknowledged(transport: Any) -> int:
    """How many sent bytes the peer has not acknowledged: tcp(7), SIOCOUTQ."""
    if transport.is_closing():
        return 0
    unsent = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(unsent, sys.byteorder)


class _Pace:
    """Whether bytes keep flowing: at least MIN_BYTES_PER_S over each span of PACE_SPAN_S."""

    __slots__ = ("_bytes", "_since")

    def __init__(self, now: float) -> None:
        self._since, self._bytes = now, 0

    def add(self, number: int) -> None:
        self._bytes += number

    def is_too_slow(self, now: float) -> bool:
        elapsed_s = now - self._since
        if elapsed_s < PACE_SPAN_S:
            return False
        is_slow = self._bytes < MIN_BYTES_PER_S * elapsed_s
        self._since, self._bytes = now, 0
        return is_slow
