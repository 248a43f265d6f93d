"""Many URLs at once: for each a body or the reason why there is none, within one deadline, in one thread.

libcurl's multi interface, driven by `socket_action` and epoll: measured at a tenth of the CPU of a thread
pool with requests, and it has what safety needs: a deadline over the whole request, a cap on the body, no
redirects.
"""

import errno
import select
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice

import pycurl

from machines_server.poll.resolve import Resolver
from machines_server.poll.transfer import HANDLES_PER_MULTI, MAX_BODY_BYTES, Shard, Transfer

_BATCH = 256
_MAX_WAIT_S = 0.2
_RESOLVE_WAIT_S = 0.02
_STALL_S, _STALL_SHARE = 0.5, 0.5
"""Who has been kept from running for so long, or for that share of the deadline, may have missed answers."""
_OWN_ERRNOS = frozenset({0, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""0 is what libcurl leaves when there was not even a socket."""


class Failure(Enum):
    """Why there is no body."""

    UNREACHABLE = "no connection"
    SILENT = "a connection, but no whole answer in time"
    BAD_ANSWER = "an answer that is not the one asked for"
    OWN = "we could not ask, so nothing is known of the host"


@dataclass(slots=True)
class Fetched:
    """How one request ended: with a `body` (status 200), or with a `failure` and its `reason`."""

    url: str
    took_s: float
    body: bytes = b""
    failure: Failure | None = None
    reason: str | None = None
    date: bytes | None = None
    """The Date header of the answer."""


class Fetcher:
    """Keeps connections and handles from one round of requests to the next; used by one thread."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s` spans a whole request: name look-up, connect, headers, body."""
        self._timeout_s = timeout_s
        self._stall_s = min(_STALL_S, _STALL_SHARE * timeout_s)
        self._epoll = select.epoll()
        self._resolver = Resolver()
        self._shards: list[Shard] = []
        self._transfers: dict[str, Transfer] = {}
        self._unresolved: list[tuple[Transfer, float]] = []
        self._under_way: set[Transfer] = set()
        self._stalled = False

    def fetch(self, urls: Iterable[str]) -> Iterator[Fetched | None]:
        """One result per URL as they come, and None whenever a step brought none.

        Handles and connections of URLs that are no longer asked for are closed. A caller may stop in the
        middle: what is still under way is given up.
        """
        wanted = dict.fromkeys(urls)
        self._keep_only(wanted)
        self._stalled = False
        self._ticked_at, self._waited_s = time.monotonic(), 0.0
        waiting, left = iter(wanted), len(wanted)
        if not left:
            return
        try:
            while True:
                quiet = True
                for result in chain(self._take(islice(waiting, _BATCH)), self._step()):
                    left -= 1
                    quiet = False
                    yield result
                    if not left:
                        return
                if quiet:
                    yield None
        finally:
            self._give_up()

    def close(self) -> None:
        """Close every connection."""
        self._give_up()
        self._close(set(self._shards))
        self._epoll.close()

    def _give_up(self) -> None:
        """Leave no handle under way: libcurl would not take it a second time."""
        self._unresolved.clear()
        for transfer in self._under_way:
            transfer.shard.multi.remove_handle(transfer.curl)
        self._under_way.clear()

    def _keep_only(self, wanted: dict[str, None]) -> None:
        kept = {one.host for url, one in self._transfers.items() if url in wanted}
        self._resolver.forget_all_but(kept)
        # libcurl closes a connection that it keeps alive only together with the CurlMulti.
        self._close({one.shard for url, one in self._transfers.items() if url not in wanted})

    def _close(self, shards: set[Shard]) -> None:
        for url in [url for url, one in self._transfers.items() if one.shard in shards]:
            self._transfers.pop(url).close()
        for shard in shards:
            shard.multi.close()
            self._shards.remove(shard)

    def _take(self, urls: Iterable[str]) -> Iterator[Fetched]:
        for url in urls:
            try:
                self._unresolved.append((self._transfer(url), time.monotonic()))
            except pycurl.error as error:
                reason = f"this server could not set up a request: {error}"
                yield Fetched(url, 0.0, failure=Failure.OWN, reason=reason)

    def _transfer(self, url: str) -> Transfer:
        transfer = self._transfers.get(url)
        if transfer is None:
            shard = next((one for one in self._shards if one.handles < HANDLES_PER_MULTI), None)
            if shard is None:
                shard = Shard(self._epoll)
                self._shards.append(shard)
            transfer = self._transfers[url] = Transfer(url, shard)
        if transfer.needs_look_up:
            self._resolver.ask(transfer.host)
        return transfer

    def _step(self) -> Iterator[Fetched]:
        """Wait for sockets and timers once, and hand out what has ended."""
        yield from self._start_resolved()
        now = self._now()
        due = min((shard.due for shard in self._shards), default=now)
        self._waited_s = min(max(due - now, 0.0), _RESOLVE_WAIT_S if self._unresolved else _MAX_WAIT_S)
        self._ticked_at = now
        for fd, events in self._epoll.poll(self._waited_s):
            mask = (events & select.EPOLLIN and pycurl.CSELECT_IN) | (
                events & select.EPOLLOUT and pycurl.CSELECT_OUT
            )
            if events & (select.EPOLLERR | select.EPOLLHUP):
                mask |= pycurl.CSELECT_ERR
            shard = next((one for one in self._shards if fd in one.fds), None)
            if shard is not None:  # else an event before this one has closed it
                shard.multi.socket_action(fd, mask)
                shard.touched = True
        now = self._now()
        for shard in self._shards:
            if shard.due <= now:
                shard.due = float("inf")
                shard.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
                shard.touched = True
            if shard.touched:
                shard.touched = False
                for transfer, code in shard.ended():
                    yield self._result(transfer, code)

    def _now(self) -> float:
        """The time; notes whether we were stopped or starved since the last tick.

        Then answers may lie unread behind deadlines that passed meanwhile.
        """
        now = time.monotonic()
        self._stalled |= now - self._ticked_at - self._waited_s > self._stall_s
        return now

    def _start_resolved(self) -> Iterator[Fetched]:
        """Start what has an address; a name takes from the time of its request while it is looked up."""
        unresolved, self._unresolved = self._unresolved, []
        now = time.monotonic()
        for transfer, since in unresolved:
            waited_s = now - since
            if not transfer.needs_look_up or self._resolver.addresses(transfer.host):
                self._under_way.add(transfer)
                transfer.start(self._timeout_s - waited_s, self._resolver)
            elif explained := self._explain_name(transfer.host, waited_s):
                failure, reason = explained
                yield Fetched(transfer.url, waited_s, failure=failure, reason=reason)
            else:
                self._resolver.ask(transfer.host)  # there may have been too many look-ups at first
                self._unresolved.append((transfer, since))

    def _explain_name(self, host: str, waited_s: float) -> tuple[Failure, str] | None:
        """Why there is no address; None while there may still be one in time."""
        if reason := self._resolver.own_fault(host):
            return Failure.OWN, reason
        if reason := self._resolver.error(host):
            return Failure.UNREACHABLE, reason
        if waited_s < self._timeout_s:
            return None
        if self._stalled:
            return Failure.OWN, _STALLED
        if not self._resolver.looks_up(host):
            return Failure.OWN, "this server was looking up too many other names"
        return Failure.UNREACHABLE, f"name not resolved within {self._timeout_s:g} s"

    def _result(self, transfer: Transfer, code: int) -> Fetched:
        self._under_way.discard(transfer)
        curl, url = transfer.curl, transfer.url
        took_s = curl.getinfo(pycurl.TOTAL_TIME)
        if code == pycurl.E_OK:
            status = curl.getinfo(pycurl.RESPONSE_CODE)
            if status == 200:
                body = b"".join(transfer.chunks)
                transfer.chunks.clear()
                return Fetched(url, took_s, body, date=transfer.date)
            return Fetched(url, took_s, failure=Failure.BAD_ANSWER, reason=f"HTTP status {status}")
        failure, reason = self._explain(transfer, code)
        return Fetched(url, took_s, failure=failure, reason=reason)

    def _explain(self, transfer: Transfer, code: int) -> tuple[Failure, str]:
        curl = transfer.curl
        number = curl.getinfo(pycurl.OS_ERRNO)
        if code in (pycurl.E_OUT_OF_MEMORY, pycurl.E_FAILED_INIT) or (
            code == pycurl.E_COULDNT_CONNECT and number in _OWN_ERRNOS
        ):
            what = errno.errorcode.get(number, "no socket")
            return Failure.OWN, f"this server could not open a connection: {what}"
        if code == pycurl.E_OPERATION_TIMEDOUT:
            if self._stalled:
                return Failure.OWN, _STALLED
            if transfer.was_connected:
                return Failure.SILENT, f"no answer within {self._timeout_s:g} s on an open connection"
            return Failure.UNREACHABLE, f"no connection within {self._timeout_s:g} s"
        if code == pycurl.E_COULDNT_CONNECT:
            return Failure.UNREACHABLE, _CONNECT.get(number, "connection failed")
        if code in (pycurl.E_FILESIZE_EXCEEDED, pycurl.E_WRITE_ERROR):
            return Failure.BAD_ANSWER, f"answer larger than {MAX_BODY_BYTES // 2**20} MiB"
        if code == _E_TOO_LARGE or curl.errstr().startswith("Too large response headers"):
            return Failure.BAD_ANSWER, "headers without end"
        if code == pycurl.E_RECV_ERROR and not number:  # libcurl could not make sense of what it received
            return Failure.BAD_ANSWER, "not an HTTP answer"
        return Failure.BAD_ANSWER, _ANSWER.get(code, curl.errstr() or f"libcurl error {code}")


_STALLED = "this server did not run in time to read the answer"
_E_TOO_LARGE = 100
"""CURLE_TOO_LARGE, which pycurl does not name."""
_CONNECT = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connection timed out",
    errno.ECONNRESET: "connection reset",
}
_ANSWER = {
    pycurl.E_GOT_NOTHING: "connection closed without an answer",
    pycurl.E_RECV_ERROR: "connection reset",
    pycurl.E_SEND_ERROR: "connection reset",
    pycurl.E_PARTIAL_FILE: "answer cut short",
    pycurl.E_UNSUPPORTED_PROTOCOL: "not an HTTP answer",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "not an HTTP answer",
}
