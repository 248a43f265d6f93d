"""Requests to the engine over one kept connection; whole requests have a deadline."""

import errno
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import pycurl

from machines_server.core import reasons
from machines_server.core.access import Access
from machines_server.core.reasons import Reason
from machines_server.core.text import printable

GetAccess = Callable[[], Access]
"""Returns what requests need now; raises NoAccessError."""
_CONNECT_S = 5.0
_REASON_OF_CODE: Mapping[int, Reason] = {
    pycurl.E_COULDNT_RESOLVE_HOST: Reason("its name cannot be resolved"),
    pycurl.E_GOT_NOTHING: reasons.CLOSED,
    pycurl.E_RECV_ERROR: reasons.RESET,
    pycurl.E_SEND_ERROR: reasons.RESET,
    pycurl.E_PARTIAL_FILE: reasons.CUT_SHORT,
    pycurl.E_UNSUPPORTED_PROTOCOL: reasons.NO_HTTP,
    pycurl.E_FTP_WEIRD_SERVER_REPLY: reasons.NO_HTTP,
    pycurl.E_SSL_CONNECT_ERROR: reasons.NO_TLS,
    pycurl.E_SSL_CACERT: reasons.NOT_TRUSTED,
    pycurl.E_SSL_CACERT_BADFILE: Reason("this server has no trusted CA certificates"),
    pycurl.E_ABORTED_BY_CALLBACK: Reason("this server is stopping"),
}


class EngineUnreachableError(Exception):
    """There was no answer; the text says why, without anything that the engine sent."""


class Answer(NamedTuple):
    """An answer; `retry_after_s` is None unless it says so."""

    status: int
    body: bytes
    is_cut: bool
    """Whether the body was too long, so that only its beginning is there."""
    retry_after_s: float | None


def redacted(url: str) -> str:
    """A URL for messages: without a user, a password or a query."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    port = "" if parts.port is None else f":{parts.port}"
    return printable(f"{parts.scheme}://{host}{port}{parts.path}")


class Engine:
    """Sends requests to one URL; for one thread at a time."""

    def __init__(
        self,
        url: str,
        headers: Sequence[str],
        access: GetAccess,
        most_bytes: int,
        is_stopping: Callable[[], bool] = bool,
    ) -> None:
        """`most_bytes` limits the body of an answer; a request ends soon once `is_stopping` is true."""
        self._headers, self._access, self._most_bytes = headers, access, most_bytes
        self._body, self._is_cut = bytearray(), False
        self._retry_after_s: float | None = None
        self._curl = curl = pycurl.Curl()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.USERAGENT, "machines-server")
        curl.setopt(pycurl.PROXY, "")  # a proxy of the environment is not for this
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)
        curl.setopt(pycurl.WRITEFUNCTION, self._receive)
        curl.setopt(pycurl.HEADERFUNCTION, self._note_header)
        curl.setopt(pycurl.NOPROGRESS, 0)
        curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: int(is_stopping()))
        authorities = ssl.get_default_verify_paths()  # libcurl may look for the system's elsewhere
        if authorities.cafile is not None:
            curl.setopt(pycurl.CAINFO, authorities.cafile)
        if authorities.capath is not None:
            curl.setopt(pycurl.CAPATH, authorities.capath)

    def post(self, body: bytes, timeout_s: float) -> Answer:
        """Send a body; raises EngineUnreachableError, and what `access` raises."""
        curl, (authorization, authorities) = self._curl, self._access()
        more = [] if authorization is None else [f"Authorization: {authorization}"]
        curl.setopt(pycurl.HTTPHEADER, [*self._headers, "Accept-Encoding: identity", "Expect:", *more])
        if authorities is not None:
            curl.setopt(pycurl.CAINFO_BLOB, authorities)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, round(timeout_s * 1000)))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(min(timeout_s, _CONNECT_S) * 1000)))
        curl.setopt(pycurl.POSTFIELDS, body)
        self._body.clear()
        self._is_cut, self._retry_after_s = False, None
        try:
            curl.perform()
        except pycurl.error as error:
            if not self._is_cut:
                raise EngineUnreachableError(self._reason(int(error.args[0]), timeout_s)) from None
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        return Answer(status, bytes(self._body), self._is_cut, self._retry_after_s)

    def close(self) -> None:
        """Close the connection."""
        self._curl.close()

    def _reason(self, code: int, timeout_s: float) -> str:
        if code == pycurl.E_OPERATION_TIMEDOUT:
            is_connected = self._curl.getinfo(pycurl.PRETRANSFER_TIME) > 0
            return f"no {'answer' if is_connected else 'connection'} within {timeout_s:.3g} s"
        if code == pycurl.E_COULDNT_CONNECT:
            refused = self._curl.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED
            return (reasons.REFUSED if refused else reasons.NOT_CONNECTED).text
        # Not libcurl's own message, which may contain bytes from the engine.
        found = _REASON_OF_CODE.get(code)
        return f"libcurl's error {code}" if found is None else found.text

    def _receive(self, chunk: bytes) -> int | None:
        room = self._most_bytes - len(self._body)
        self._body += chunk[:room]
        if len(chunk) > room:
            self._is_cut = True
            return -1
        return None

    def _note_header(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name.lower() == b"retry-after" and (text := value.strip()).isdigit() and len(text) < 7:
            self._retry_after_s = float(text)
