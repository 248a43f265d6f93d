"""Translates libcurl's codes and the system's errors into a Failure and a Reason."""

import errno
from collections.abc import Mapping
from enum import Enum

import pycurl

from machines_server.core import reasons
from machines_server.core.reasons import Reason
from machines_server.poll.transfer import MAX_POLL_ANSWER_BYTES, Transfer


class Failure(Enum):
    """How a request failed."""

    UNREACHABLE = "no connection"
    SILENT = "a connection, but no complete answer in time"
    BAD_ANSWER = "an unexpected answer"
    OWN = "this server could not ask, so nothing is known about the host"
    UNEQUIPPED = "this server lacks what it needs to ask this host, but may be able to ask others"


UNREADABLE = Reason("this server failed to read its answer; its log says why")
NOT_SET_UP = Reason("this server could not set up a request; its log says why")
NOT_READ_IN_TIME = Reason("this server did not run in time to read the answer")
TOO_MANY_NAMES = Reason("this server was looking up too many other names")
_NO_AUTHORITIES = Reason(
    "skipped, since this server has no trusted CA certificates: install ca-certificates or set SSL_CERT_FILE"
)
_TOO_LARGE = Reason(f"answer larger than {MAX_POLL_ANSWER_BYTES // 2**20} MiB", reasons.TOO_LARGE)
_ENDLESS_HEADERS = Reason("headers without end", reasons.ENDLESS_HEADERS)

_OWN_CODES = frozenset({pycurl.E_OUT_OF_MEMORY, pycurl.E_FAILED_INIT})
_OWN_ERRNOS = frozenset({0, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""libcurl leaves 0 when it could not even create a socket."""
_E_TOO_LARGE = 100
"""CURLE_TOO_LARGE, which pycurl does not name."""
_MAX_HEADER_BYTES = 300 * 1024
"""The most that libcurl accepts of headers, trailers and 1xx answers; beyond it reports E_RECV_ERROR."""
_CONNECT: Mapping[int, Reason] = {
    errno.ECONNREFUSED: reasons.REFUSED,
    errno.EHOSTUNREACH: reasons.NO_ROUTE,
    errno.ENETUNREACH: reasons.NO_NETWORK,
    errno.ETIMEDOUT: reasons.TIMED_OUT,
    errno.ECONNRESET: reasons.RESET,
}
_CERTIFICATE: Mapping[int, Reason] = {
    **dict.fromkeys((0, 1, 62, 64), reasons.OTHER_NAME),
    9: reasons.NOT_VALID_YET,
    10: reasons.EXPIRED,
}
"""By OpenSSL's X509_V_*; 0, 1: a valid chain, 62 and 64: a name and an address that do not match."""
_ANSWER: Mapping[int, Reason] = {
    pycurl.E_GOT_NOTHING: reasons.CLOSED,
    pycurl.E_RECV_ERROR: reasons.RESET,
    pycurl.E_SEND_ERROR: reasons.RESET,
    pycurl.E_PARTIAL_FILE: reasons.CUT_SHORT,
    pycurl.E_UNSUPPORTED_PROTOCOL: reasons.NO_HTTP,
    pycurl.E_FTP_WEIRD_SERVER_REPLY: reasons.NO_HTTP,
    pycurl.E_BAD_CONTENT_ENCODING: reasons.ENCODED,
    pycurl.E_SSL_CONNECT_ERROR: reasons.NO_TLS,
}


def failure_of(transfer: Transfer, code: int, timeout_s: float, *, stalled: bool) -> tuple[Failure, Reason]:
    """Why a transfer ended with this code of libcurl; `stalled` if this process did not run for a while."""
    curl = transfer.curl
    number = curl.getinfo(pycurl.OS_ERRNO)
    if code in _OWN_CODES or (code == pycurl.E_COULDNT_CONNECT and number in _OWN_ERRNOS):
        what = errno.errorcode.get(number, "no socket")
        return Failure.OWN, Reason(f"this server could not open a connection: {what}")
    if code == pycurl.E_SSL_CACERT_BADFILE:
        return Failure.UNEQUIPPED, _NO_AUTHORITIES
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return _late(transfer, timeout_s, stalled=stalled)
    if code == pycurl.E_COULDNT_CONNECT:
        return Failure.UNREACHABLE, _CONNECT.get(number, reasons.NOT_CONNECTED)
    if code in (pycurl.E_FILESIZE_EXCEEDED, pycurl.E_WRITE_ERROR):
        return Failure.BAD_ANSWER, _TOO_LARGE
    if code == _E_TOO_LARGE or curl.getinfo(pycurl.HEADER_SIZE) > _MAX_HEADER_BYTES:
        return Failure.BAD_ANSWER, _ENDLESS_HEADERS
    if code == pycurl.E_RECV_ERROR and not number:  # libcurl did not understand what it received
        return Failure.BAD_ANSWER, reasons.NO_HTTP
    if code == pycurl.E_SSL_CACERT:  # it has the value of E_PEER_FAILED_VERIFICATION
        verdict = curl.getinfo(pycurl.SSL_VERIFYRESULT)
        return Failure.BAD_ANSWER, _CERTIFICATE.get(verdict, reasons.NOT_TRUSTED)
    # Not libcurl's own message, which may contain bytes from the host.
    reason = _ANSWER.get(code) or Reason(f"not a usable answer (libcurl's error {code})")
    return Failure.BAD_ANSWER, reason


def _late(transfer: Transfer, timeout_s: float, *, stalled: bool) -> tuple[Failure, Reason]:
    if stalled:
        return Failure.OWN, NOT_READ_IN_TIME
    within = f"within {timeout_s:g} s"
    if transfer.was_connected:
        return Failure.SILENT, Reason(f"no answer {within} on an open connection", reasons.NO_ANSWER)
    return Failure.UNREACHABLE, Reason(f"no connection {within}", reasons.NO_CONNECTION)
