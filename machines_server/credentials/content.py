"""Checks the content of credentials and of files of authorities; messages never quote it."""

import re
import ssl
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple

from machines_server.core.text import clip, printable

MAX_CREDENTIAL_BYTES = 4096
MAX_AUTHORITIES_BYTES = 64 * 1024
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAMES = ("commonName", "organizationName")
_BEARER = re.compile(r"[\x21-\x7e]+")


class UnusableError(Exception):
    """The content of a file cannot be used; the message says what rule it breaks, and what is expected."""


class Certificate(NamedTuple):
    """A certificate of an authority, and when it expires (epoch seconds)."""

    name: str
    expires_at: float


def authorization(content: bytes) -> str:
    """The Authorization header for the first line of a credential; raises UnusableError.

    A line with a colon is `user:password` and sent as Basic, any other is a bearer token.
    """
    if len(content) > MAX_CREDENTIAL_BYTES:
        raise UnusableError(f"it has over {MAX_CREDENTIAL_BYTES // 1024} KiB; expected one line")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableError("it is not UTF-8; expected one line of text") from None
    secret = text.split("\n", 1)[0].strip(" \t\r")
    if not secret:
        raise UnusableError("its first line is empty; expected a token or user:password")
    if _CONTROL.search(secret):
        raise UnusableError("it has control characters; expected one line of text")
    if secret.startswith("-----BEGIN "):
        raise UnusableError("it is a key or a certificate; expected a token or user:password")
    if ":" in secret:
        return f"Basic {b64encode(secret.encode()).decode('ascii')}"
    if not _BEARER.fullmatch(secret):
        raise UnusableError(
            "a token has no spaces and only ASCII characters; expected it alone, without the word Bearer,"
            " or user:password"
        )
    return f"Bearer {secret}"


def check_authorities(content: bytes) -> bytes:
    """Return the PEM certificates of authorities as they are; raises UnusableError."""
    _context(content)
    return content


def certificates(content: bytes) -> Iterator[Certificate]:
    """The certificates in a CA certificate file; raises UnusableError."""
    for one in _context(content).get_ca_certs():
        subject: Any = one.get("subject", ())
        named = [str(value) for part in subject for key, value in part if key in _NAMES]
        expires_at = ssl.cert_time_to_seconds(str(one["notAfter"]))
        yield Certificate(printable(clip(named[-1])) if named else "without a name", expires_at)


def _context(content: bytes) -> ssl.SSLContext:
    if len(content) > MAX_AUTHORITIES_BYTES:
        most = MAX_AUTHORITIES_BYTES // 1024
        raise UnusableError(f"it has over {most} KiB; expected only the CA certificates for this host")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):  # ValueError: there is nothing in it
        raise UnusableError("it has no valid PEM certificate; expected -----BEGIN CERTIFICATE-----") from None
    return context
