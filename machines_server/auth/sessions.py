"""Sessions of people in a browser: an agent's link makes one, and it is read-only.

Only a secret is stored: a link and a cookie carry who, until when, and a keyed hash of that. A new secret
ends them all.
"""

import hmac
import secrets
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

import msgspec
from msgspec import Struct

from machines_server.store.api import Nonces, SessionSecret

LINK_S, SESSION_S = 300.0, 12 * 3600.0
"""How long a link is valid, and a session."""
_MAX_TOKEN_CHARACTERS = 1024
_LINK, _SESSION = b"link", b"session"


class _Claims(Struct, frozen=True, array_like=True):
    agent: str
    ends_at: float
    made_at: float
    nonce: str


class Token(NamedTuple):
    """A text for the client to send back, and when it expires (epoch seconds)."""

    text: str
    ends_at: float


_decode = msgspec.json.Decoder(_Claims).decode


class Sessions:
    """Makes and reads links and sessions; for any number of threads and processes."""

    def __init__(
        self, secret: SessionSecret, open_nonces: Callable[[], Nonces], is_known: Callable[[str], bool]
    ) -> None:
        """The sessions of an agent that is not `is_known` have ended."""
        self._secret, self._open_nonces, self._is_known = secret, open_nonces, is_known
        self._lock = threading.Lock()

    def link(self, agent: str) -> Token:
        """A token that makes one session; raises StoreError."""
        return self._token(_LINK, agent, LINK_S)

    def begin(self, link: str) -> Token | None:
        """A session for a token of `link` that is used for the first time; else None. Raises StoreError."""
        claims = self._claims(_LINK, link, self._secret.current())
        if claims is None:
            return None
        with self._lock:
            nonces = self._open_nonces()
            try:
                if claims.made_at < nonces.since() or not nonces.use(bytes.fromhex(claims.nonce)):
                    return None
            finally:
                nonces.close()
        return self._token(_SESSION, claims.agent, SESSION_S)

    def agent(self, session: str) -> str | None:
        """The agent whose link made a session that has not ended; else None."""
        secret = self._secret.get_nowait()
        claims = self._claims(_SESSION, session, secret) if secret else None
        return claims.agent if claims else None

    def end_all(self) -> None:
        """End all sessions and links; raises StoreError."""
        self._secret.replace()

    def _token(self, purpose: bytes, agent: str, lasts_s: float) -> Token:
        now = time.time()
        claims = _Claims(agent, now + lasts_s, now, secrets.token_hex(16))
        content = msgspec.json.encode(claims)
        proof = _proof(self._secret.current(), purpose, content)
        return Token(f"{_text(content)}.{_text(proof)}", claims.ends_at)

    def _claims(self, purpose: bytes, token: str, secret: bytes) -> _Claims | None:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            return None
        content_text, _, proof_text = token.partition(".")
        try:
            content, proof = _bytes(content_text), _bytes(proof_text)
            if not hmac.compare_digest(proof, _proof(secret, purpose, content)):
                return None
            claims = _decode(content)
        except ValueError:  # not in base64
            return None
        now = time.time()
        # A clock that was set back would make links and sessions last longer.
        is_valid = claims.made_at - 60 <= now < claims.ends_at and self._is_known(claims.agent)
        return claims if is_valid else None


def _proof(secret: bytes, purpose: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, purpose + b"\n" + content, sha256)


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
