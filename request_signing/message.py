"""What is signed, and the headers that carry it."""

from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256

AGENT, TIMESTAMP, NONCE, SIGNATURE, SIGNATURE_VERSION = (
    "X-Agent-Id",
    "X-Timestamp",
    "X-Nonce",
    "X-Signature",
    "X-Signature-Version",
)
PATH_ALONE, WITH_QUERY = 1, 2
"""The versions: the second line is the path, or path and query as in the request line."""
SIGNATURE_AGE_S, SIGNATURE_AHEAD_S = 300.0, 60.0
"""How old a signature may be, and how far ahead of the reader's clock."""


class Refusal(StrEnum):
    """Why a request does not count as signed by an agent."""

    MISSING_HEADERS = "missing_headers"
    MALFORMED = "malformed"
    TIMESTAMP_OUT_OF_WINDOW = "timestamp_out_of_window"
    UNKNOWN_AGENT = "unknown_agent"
    BAD_SIGNATURE = "bad_signature"
    NONCE_REPLAYED = "nonce_replayed"
    KEY_SERVER_UNREACHABLE = "key_server_unreachable"


def body_hash(body: bytes) -> str:
    """The SHA-256 of a body, which may be empty, in lower-case hex."""
    return sha256(body).hexdigest()


def signed_bytes(method: str, target: str, timestamp: str, nonce: str, body_sha256: str) -> bytes:
    """The bytes that a signature covers; `target` is the path, or path and query, before any decoding."""
    return "\n".join((method, target, timestamp, nonce, body_sha256)).encode("latin-1", "replace")


def signed_target(target: str, version: int) -> str:
    """The part of a request's target that a version signs."""
    return target if version == WITH_QUERY else target.partition("?")[0]


def timestamp_of(at: float) -> str:
    """A time in epoch seconds as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
