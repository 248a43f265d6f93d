"""Shared by the layers outside Flask: ASGI's types, and sending complete answers."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from machines_server.contract.errors import error_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON_TYPE = "application/json"
NO_SNIFF = (b"x-content-type-options", b"nosniff")
SESSION_COOKIE = "machines_session"
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What keeps other sites from using our pages."""
MAX_REQUEST_BYTES = 2**20
"""The limit for the body of any request."""


async def answer(scope: Scope, send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send a complete answer, without its body for HEAD."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def answer_error(
    scope: Scope, send: Send, status: int, code: str, message: str, headers: Headers = ()
) -> None:
    """Send an error as the API's JSON."""
    body = error_json(code, message)
    length = (b"content-length", str(len(body)).encode())
    await answer(
        scope, send, status, [(b"content-type", JSON_TYPE.encode()), length, NO_SNIFF, *headers], body
    )


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header, the last one of several; `name` is in lower case."""
    return next((value for key, value in reversed(scope["headers"]) if key == name), None)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Return whether a client accepts gzip; False if it gives gzip a weight."""
    return b"gzip" in accept_encoding and any(
        coding.strip() == b"gzip" for coding in accept_encoding.split(b",")
    )
