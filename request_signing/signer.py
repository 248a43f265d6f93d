"""Signs requests with an agent's private key."""

import secrets
import time
from base64 import b64encode
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from request_signing.message import (
    AGENT,
    NONCE,
    SIGNATURE,
    SIGNATURE_VERSION,
    TIMESTAMP,
    WITH_QUERY,
    body_hash,
    signed_bytes,
    signed_target,
    timestamp_of,
)


class Signer:
    """Makes the headers of signed requests; for any number of threads."""

    def __init__(self, agent: str, key: Ed25519PrivateKey, *, clock: Callable[[], float] = time.time) -> None:
        self.agent = agent
        self._key, self._clock = key, clock

    def headers(
        self, method: str, target: str, body: bytes = b"", *, version: int = WITH_QUERY
    ) -> dict[str, str]:
        """The headers to send; `target` is path and query exactly as in the request line.

        Each call makes a new nonce; headers cannot be sent twice.
        """
        timestamp, nonce = timestamp_of(self._clock()), secrets.token_hex(16)
        signed = signed_bytes(method, signed_target(target, version), timestamp, nonce, body_hash(body))
        headers = {
            AGENT: self.agent,
            TIMESTAMP: timestamp,
            NONCE: nonce,
            SIGNATURE: b64encode(self._key.sign(signed)).decode(),
        }
        return headers | ({SIGNATURE_VERSION: str(version)} if version == WITH_QUERY else {})
