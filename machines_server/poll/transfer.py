"""libcurl's handles, which `fetch.py` drives: a transfer for each URL, many of them in a group."""

import select
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pycurl

from machines_server.core.access import Access
from machines_server.core.hosts import is_address
from machines_server.poll.resolve import Resolver
from machines_server.poll.targets import Sign, Target

MAX_POLL_ANSWER_BYTES = 2**20
HANDLES_PER_MULTI = 2000
_MAX_DATE_BYTES = 64


class Authorities(NamedTuple):
    """Where the system has the certificates of the authorities that it trusts; None if unknown."""

    file: str | None
    folder: str | None


class HandleGroup:
    """One CurlMulti; libcurl slows down with the number of handles in it."""

    def __init__(self, epoll: select.epoll) -> None:
        self.multi = pycurl.CurlMulti()
        self.handles = 0
        self.due = float("inf")
        self.touched = False
        self.fds: dict[int, int] = {}
        """The sockets that libcurl waits for, and the events."""
        self._resting: dict[int, int] = {}
        """Other sockets that are still registered; see `_watch`."""
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

    def opened(self, fd: int) -> None:
        """Note that libcurl has opened a socket, whose number may be that of one it has closed."""
        self._resting.pop(fd, None)

    def forget(self, fd: int) -> None:
        """Stop watching a kept connection on which something happened: its host has probably closed it."""
        if self._resting.pop(fd, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(fd)

    def _watch(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        """Register what libcurl waits for.

        The socket of a kept connection stays registered between requests, which saves half of the system
        calls of a cycle. Closing a socket removes it from epoll.
        """
        if what == pycurl.POLL_REMOVE:
            if mask := self.fds.pop(fd, 0):
                self._resting[fd] = mask
            return
        mask = (what & pycurl.POLL_IN and select.EPOLLIN) | (what & pycurl.POLL_OUT and select.EPOLLOUT)
        before = self.fds.get(fd) or self._resting.pop(fd, 0)
        self.fds[fd] = mask
        if not before:
            self._epoll.register(fd, mask)
        elif before != mask:
            self._epoll.modify(fd, mask)

    def _set_timer(self, timeout_ms: int) -> None:
        self.due = float("inf") if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


class Transfer:
    """One target with its handle, which is set up once and used in every cycle."""

    def __init__(
        self,
        target: Target,
        group: HandleGroup,
        headers: list[str],
        trusted: Authorities,
        sign: Sign | None = None,
        *,
        needs_date: bool,
    ) -> None:
        """`trusted` are the authorities for targets without their own."""
        self.target, self.url, self.group = target, target.url, group
        parts = urlsplit(self.url)
        self.host = parts.hostname or ""
        self.needs_look_up = not is_address(self.host)
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.addresses: tuple[str, ...] = ()
        """The addresses used for the last request, if the host has a name."""
        self.chunks: list[bytes] = []
        self.date: bytes | None = None
        """The Date header of the answer."""
        self._received_bytes, self._opened = 0, 0
        self.curl = curl = pycurl.Curl()
        curl.setopt(pycurl.URL, self.url)
        curl.setopt(pycurl.HTTPHEADER, headers)
        access = target.access or Access()
        if access.authorization is not None:
            headers = [*headers, f"Authorization: {access.authorization}"]
            curl.setopt(pycurl.HTTPHEADER, headers)
        self._headers, self._path = headers, parts.path or "/"
        self._sign = sign if target.is_signed else None
        if parts.scheme == "https":
            self._verify(access.authorities, trusted)
        curl.setopt(pycurl.USERAGENT, "machines-server")
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
        # We set the addresses; otherwise libcurl searches its whole cache after every request.
        curl.setopt(pycurl.DNS_CACHE_TIMEOUT, -1)
        curl.setopt(pycurl.MAXFILESIZE, MAX_POLL_ANSWER_BYTES)
        curl.setopt(pycurl.WRITEFUNCTION, self._receive)
        curl.setopt(pycurl.SOCKOPTFUNCTION, self._note_opened)
        if needs_date:  # a call for each header costs as much as everything else in Python
            curl.setopt(pycurl.HEADERFUNCTION, self._note_date)
        group.handles += 1
        group.transfers[curl] = self

    def _verify(self, authorities: bytes | None, trusted: Authorities) -> None:
        """Trust only these authorities; a kept connection is used again only with the same ones.

        libcurl compares those that it gets as bytes, but files only by their names. The libcurl in pycurl's
        packages looks for the system's where another distribution has them.
        """
        # HTTP/2 would send requests with different credentials over one connection.
        self.curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        if authorities is not None:
            self.curl.setopt(pycurl.CAINFO_BLOB, authorities)
            return
        if trusted.file is not None:
            self.curl.setopt(pycurl.CAINFO, trusted.file)
        if trusted.folder is not None:
            self.curl.setopt(pycurl.CAPATH, trusted.folder)

    def start(self, timeout_s: float, resolver: Resolver) -> None:
        """Send the request, which may take `timeout_s`."""
        self.chunks.clear()
        self._received_bytes, self._opened, self.date = 0, 0, None
        self.curl.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout_s * 1000)))
        if self._sign is not None:
            signed = [f"{name}: {value}" for name, value in self._sign("GET", self._path, b"").items()]
            self.curl.setopt(pycurl.HTTPHEADER, [*self._headers, *signed])
        if self.needs_look_up:
            self._use_addresses(resolver.addresses(self.host))
        self.group.multi.add_handle(self.curl)

    def _use_addresses(self, addresses: tuple[str, ...]) -> None:
        """Send the request to these addresses of the host's name; their order does not matter.

        libcurl keeps connections by the name that it connects to, so each set of addresses gets a name of its
        own. Otherwise a connection to the previous host of the name would stay in use.
        """
        if set(addresses) == set(self.addresses):
            return
        self.addresses = addresses
        name = f"{sha256(' '.join(sorted(addresses)).encode()).hexdigest()[:16]}.{self.host}"
        self.curl.setopt(pycurl.RESOLVE, [f"{name}:{self._port}:{','.join(addresses)}"])
        self.curl.setopt(pycurl.CONNECT_TO, [f"{self.host}:{self._port}:{name}:{self._port}"])

    @property
    def answered_by(self) -> str:
        """The address that the request connected to, once it has ended."""
        return str(self.curl.getinfo(pycurl.PRIMARY_IP))

    @property
    def was_connected(self) -> bool:
        """Return whether the request was connected when it ended.

        A kept connection may prove to be closed when the request is sent; libcurl then opens another one.
        """
        is_connecting = self._opened > 0 and self.curl.getinfo(pycurl.NUM_CONNECTS) == 0
        return self.curl.getinfo(pycurl.REQUEST_SIZE) > 0 and not is_connecting

    def _note_opened(self, fd: int, _purpose: int) -> int:
        self._opened += 1
        self.group.opened(fd)
        return pycurl.SOCKOPT_OK

    def _receive(self, chunk: bytes) -> int | None:
        """Keep the bytes, up to the limit: older versions of libcurl limit only announced lengths."""
        self._received_bytes += len(chunk)
        if self._received_bytes > MAX_POLL_ANSWER_BYTES:
            return -1
        self.chunks.append(chunk)
        return None

    def _note_date(self, header: bytes) -> None:
        if header[:5].lower() == b"date:":
            self.date = header[5:_MAX_DATE_BYTES]

    def close(self) -> None:
        """Close the handle; its connection is kept until the group is closed."""
        self.group.handles -= 1
        del self.group.transfers[self.curl]
        self.curl.close()


def system_authorities() -> Authorities:
    """Where Python finds the system's authorities; SSL_CERT_FILE and SSL_CERT_DIR name others."""
    paths = ssl.get_default_verify_paths()
    return Authorities(paths.cafile, paths.capath)


def request_headers() -> list[str]:
    """The headers of every request; reads a file of this installation.

    A sidecar answers requests that have the last header under any host name: no page's script can send it.
    """
    client = f"Sec-Machines-Client: machines-server/{version('machines-server')}"
    return ["Accept: application/json", "Accept-Encoding: identity", client]
