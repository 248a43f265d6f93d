"""Checks who has signed a request, if SIDECAR_AUTH_MODE says so; only then is `cryptography` imported."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from request_signing.message import Refusal
    from sidecar.app import Digest, Request
    from sidecar.settings import Settings

_PERIOD_S = 400.0
"""Nonces are kept for one to two periods; a signature is valid for 360 s at most."""
_MAX_LOGGED_CHARACTERS = 200
Refused = tuple[int, str, str]
"""The status of a refusal, its reason, and a sentence."""

log = logging.getLogger(__name__)


class MissingLibraryError(Exception):
    """Signatures cannot be checked without `cryptography`; the text says how to install it."""


class Authentication:
    """Refuses or reports what is not signed by the owner of a key in the folder."""

    def __init__(self, settings: Settings) -> None:
        """Raise MissingLibraryError if signatures cannot be checked here."""
        try:
            from request_signing.bearer_token import TokenFile
            from request_signing.keys import PublicKeys
            from request_signing.verifier import Verifier
        except ImportError as error:
            raise MissingLibraryError(
                f"SIDECAR_AUTH_MODE={settings.auth_mode} needs the package cryptography ({error}):"
                " start it with `make run-sidecar`, or run `python -m pip install cryptography`"
            ) from None
        self._enforces = settings.auth_mode == "enforce"
        token = settings.metrics_token_file
        self._token = TokenFile(Path(token), lambda fault: log.error("%s", fault)) if token else None
        keys = PublicKeys(Path(settings.auth_keys_dir or ""), lambda fault: log.error("%s", fault))
        self._verifier = Verifier(keys, self._use_nonce)
        # After a restart the nonces are forgotten, so older signatures are refused.
        self._began_at = time.time()
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self._period_ends = time.monotonic() + _PERIOD_S

    @staticmethod
    def body_digest() -> Digest:
        """The hash that signatures cover."""
        from hashlib import sha256

        return sha256()

    def refusal(self, request: Request) -> Refused | None:
        """Why a request must not be answered; None if it may be."""
        if self._token is not None and self._token.is_sent_in(request.headers.get("authorization", "")):
            return None
        from request_signing.claims import Claim, read_claim
        from request_signing.message import AGENT, body_hash

        sent = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items())
        claim = read_claim(sent, time.time())
        agent = request.headers.get(AGENT.lower(), "")[:_MAX_LOGGED_CHARACTERS] or None
        if isinstance(claim, Claim):
            reason = self._verifier.refusal(
                claim, request.method, request.target, request.body_sha256 or body_hash(b"")
            )
        else:
            reason = claim
        if reason is None:
            return None
        if self._enforces:
            return 401, reason, f"This sidecar answers signed requests only ({reason})."
        path = request.target.partition("?")[0]
        line = {
            "event": "would_reject",
            "method": request.method,
            "path": path[:_MAX_LOGGED_CHARACTERS],
            "reason": reason,
            "agent_id": agent,
        }
        log.warning("%s", json.dumps(line))
        return None

    def _use_nonce(self, nonce: bytes, at: float) -> Refusal | None:
        from request_signing.message import Refusal

        if at < self._began_at:
            return Refusal.TIMESTAMP_OUT_OF_WINDOW
        if (now := time.monotonic()) >= self._period_ends:
            is_long_ago = now >= self._period_ends + _PERIOD_S
            self._older, self._recent = set() if is_long_ago else self._recent, set()
            self._period_ends = now + _PERIOD_S
        if nonce in self._recent or nonce in self._older:
            return Refusal.NONCE_REPLAYED
        self._recent.add(nonce)
        return None
