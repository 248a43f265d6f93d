"""Why a server cannot be reached, in our words, whichever library found out."""

import socket
import ssl
from collections.abc import Iterator

from machines_client.errors import ServerUnreachable

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""OpenSSL's reasons where something else than TLS answers; the second is that of 3.2 and later."""


def unreachable(url: str, error: Exception) -> ServerUnreachable:
    """The ServerUnreachable for an error of a library."""
    causes = list(_causes(error))
    is_refused = any(isinstance(one, ConnectionRefusedError) for one in causes)
    return ServerUnreachable(f"{url} cannot be reached: {_reason(causes)}", is_refused=is_refused)


def too_late(url: str, timeout_s: float) -> ServerUnreachable:
    """The ServerUnreachable if the answer was not complete in time."""
    return ServerUnreachable(f"{url} cannot be reached: no complete answer within {timeout_s:.1f} s")


def _reason(causes: list[BaseException]) -> str:
    for one in causes:
        if isinstance(one, ssl.SSLError):
            if one.reason in _NO_TLS:
                return "no TLS there; if it is plain HTTP, use http://"
            return f"no TLS connection ({one.reason or one})"
        if isinstance(one, socket.gaierror):
            return f"its name cannot be resolved ({one.strerror})"
        if isinstance(one, ConnectionRefusedError):
            return "connection refused"
    system = next((one.strerror for one in causes if isinstance(one, OSError) and one.strerror), None)
    return system or "the connection ended before an answer came, or no HTTP server answers there"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all its causes."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    before = error.__cause__ or error.__context__
    if before is not None:
        yield from _causes(before)
