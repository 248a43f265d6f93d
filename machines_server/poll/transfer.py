"""libcurl's handles, as `fetch.py` drives them: a transfer for each URL, in shards of many."""

import select
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import pycurl

from machines_server.poll.resolve import Resolver

MAX_BODY_BYTES = 2**20
HANDLES_PER_MULTI = 2000


class Shard:
    """One CurlMulti: libcurl slows down with the number of handles in one of them."""

    def __init__(self, epoll: select.epoll) -> None:
        self.multi = pycurl.CurlMulti()
        self.handles = 0
        self.due = float("inf")
        self.touched = False
        self.fds: set[int] = set()
        self.transfers: dict[pycurl.Curl, Transfer] = {}
        self._epoll = epoll
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self.multi.setopt(pycurl.M_MAXCONNECTS, 2 * HANDLES_PER_MULTI)

    def ended(self) -> Iterator[tuple["Transfer", int]]:
        """Transfers that have ended, each with libcurl's code."""
        more = 1
        while more:
            more, good, bad = self.multi.info_read()
            for curl, code in [(curl, pycurl.E_OK) for curl in good] + [
                (curl, code) for curl, code, _ in bad
            ]:
                self.multi.remove_handle(curl)
                yield self.transfers[curl], code

    def _watch(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self.fds.discard(fd)
            try:
                self._epoll.unregister(fd)
            except OSError:  # libcurl has closed it already, and with that epoll has forgotten it
                return
            return
        mask = (what & pycurl.POLL_IN and select.EPOLLIN) | (what & pycurl.POLL_OUT and select.EPOLLOUT)
        if fd in self.fds:
            self._epoll.modify(fd, mask)
        else:
            self.fds.add(fd)
            self._epoll.register(fd, mask)

    def _set_timer(self, timeout_ms: int) -> None:
        self.due = float("inf") if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


class Transfer:
    """One URL with its handle, set up once and used every cycle."""

    def __init__(self, url: str, shard: Shard) -> None:
        self.url, self.shard = url, shard
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.needs_look_up = not _is_address(self.host)
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._addresses: tuple[str, ...] = ()
        self.chunks: list[bytes] = []
        self.date: bytes | None = None
        """What the answer's Date header says."""
        self._taken, self._opened = 0, 0
        self.curl = curl = pycurl.Curl()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTPHEADER, ["Accept: application/json", "Accept-Encoding: identity"])
        curl.setopt(pycurl.USERAGENT, "machines-server")
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
        # Addresses come from us; else libcurl looks through all that it knows at the end of every request.
        curl.setopt(pycurl.DNS_CACHE_TIMEOUT, -1)
        curl.setopt(pycurl.MAXFILESIZE, MAX_BODY_BYTES)
        curl.setopt(pycurl.WRITEFUNCTION, self._take)
        curl.setopt(pycurl.SOCKOPTFUNCTION, self._note_opened)
        if parts.path == "/api/ps":  # a call for each header costs as much as all else in Python
            curl.setopt(pycurl.HEADERFUNCTION, self._hear)
        shard.handles += 1
        shard.transfers[curl] = self

    def start(self, timeout_s: float, resolver: Resolver) -> None:
        """Send the request; it may take `timeout_s`."""
        self.chunks.clear()
        self._taken, self._opened, self.date = 0, 0, None
        self.curl.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout_s * 1000)))
        if self.needs_look_up:
            addresses = resolver.addresses(self.host)
            # A connection that is kept alive belongs to a name; the name may have gone to another host.
            self.curl.setopt(pycurl.FRESH_CONNECT, addresses != self._addresses)
            self._addresses = addresses
            self.curl.setopt(pycurl.RESOLVE, [f"{self.host}:{self._port}:{','.join(addresses)}"])
        self.shard.multi.add_handle(self.curl)

    @property
    def was_connected(self) -> bool:
        """Whether the request that has ended had a connection at its end.

        One that was kept may turn out to be closed only when the request is sent; libcurl then opens another.
        """
        is_connecting = self._opened > 0 and self.curl.getinfo(pycurl.NUM_CONNECTS) == 0
        return self.curl.getinfo(pycurl.REQUEST_SIZE) > 0 and not is_connecting

    def _note_opened(self, _fd: int, _purpose: int) -> int:
        self._opened += 1
        return pycurl.SOCKOPT_OK

    def _take(self, chunk: bytes) -> int | None:
        """Keep what arrives; an older libcurl caps only a length that was announced."""
        self._taken += len(chunk)
        if self._taken > MAX_BODY_BYTES:
            return -1
        self.chunks.append(chunk)
        return None

    def _hear(self, header: bytes) -> None:
        if header[:5].lower() == b"date:":
            self.date = header[5:]

    def close(self) -> None:
        """Close the handle; its connection is kept until the shard is closed."""
        self.shard.handles -= 1
        del self.shard.transfers[self.curl]
        self.curl.close()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
