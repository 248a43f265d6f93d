"""Reads who claims to have signed a request, before the signature is checked."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from request_signing.message import (
    AGENT,
    NONCE,
    PATH_ALONE,
    SIGNATURE,
    SIGNATURE_AGE_S,
    SIGNATURE_AHEAD_S,
    SIGNATURE_VERSION,
    TIMESTAMP,
    WITH_QUERY,
    Refusal,
)

SIGNATURE_BYTES = 64
_MAX_AGENT_CHARACTERS = 256
_REQUIRED = tuple(name.lower().encode() for name in (AGENT, TIMESTAMP, NONCE, SIGNATURE))
_VERSION_HEADER = SIGNATURE_VERSION.lower().encode()
_HEADERS = frozenset({*_REQUIRED, _VERSION_HEADER})
_VERSIONS = {b"1": PATH_ALONE, b"2": WITH_QUERY}
_NONCE = re.compile(rb"[0-9A-Fa-f]{32}")


@dataclass(frozen=True, slots=True)
class Claim:
    """The headers of a signed request, which may still be forged."""

    agent: str
    timestamp: str
    at: float
    """The timestamp in epoch seconds."""
    nonce: str
    signature: bytes
    version: int


def read_claim(headers: Iterable[tuple[bytes, bytes]], now: float) -> Claim | Refusal:
    """Read the claim from headers with lower-case names, at `now` (epoch seconds)."""
    found: dict[bytes, bytes] = {}
    is_repeated = False
    for name, value in headers:
        if name in _HEADERS:
            is_repeated |= name in found
            found[name] = value
    if not all(found.get(name) for name in _REQUIRED):
        return Refusal.MISSING_HEADERS
    agent, timestamp, nonce, signature = (found[name] for name in _REQUIRED)
    version, at = _VERSIONS.get(found.get(_VERSION_HEADER, b"1")), _epoch_s(timestamp)
    decoded = _signature(signature)
    if (
        is_repeated
        or version is None
        or at is None
        or decoded is None
        or not _NONCE.fullmatch(nonce)
        or len(agent) > _MAX_AGENT_CHARACTERS
        or b"," in agent  # repeated, and joined by a proxy
    ):
        return Refusal.MALFORMED
    if not -SIGNATURE_AHEAD_S <= now - at <= SIGNATURE_AGE_S:
        return Refusal.TIMESTAMP_OUT_OF_WINDOW
    return Claim(
        agent.decode("latin-1"), timestamp.decode("latin-1"), at, nonce.decode("ascii"), decoded, version
    )


def _epoch_s(timestamp: bytes) -> float | None:
    """An ISO 8601 time in UTC as epoch seconds; None for anything else. Without a zone it counts as UTC."""
    try:
        at = datetime.fromisoformat(timestamp.decode("ascii"))
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return at.timestamp() if at.utcoffset() == timedelta() else None


def _signature(text: bytes) -> bytes | None:
    """A signature in base64; None for anything else, including other spellings of the same bytes."""
    try:
        signature = b64decode(text, validate=True)
    except ValueError:
        return None
    return signature if len(signature) == SIGNATURE_BYTES and b64encode(signature) == text else None
