"""Checks who has signed a request: here, against a folder of keys; `key_server` asks another server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Protocol

from machines_server.auth.verify_key import VerifyKey
from machines_server.failure_log import logger_of_failures
from machines_server.store.api import Nonces
from request_signing.claims import Claim
from request_signing.keys import PublicKeys
from request_signing.message import Refusal
from request_signing.verifier import Verifier

NONCE_THREADS = 4
"""How many nonces are recorded at a time, in each worker."""

log = logger_of_failures(__name__)


class Authenticator(Protocol):
    """Checks claims in an event loop."""

    async def refusal(self, claim: Claim, method: str, target: str, body_sha256: str) -> Refusal | None:
        """Why a request is refused; None if the agent has signed it. Raises StoreError.

        `target` is path and query as in the request line.
        """


class KeyFolder:
    """Checks claims against the public keys in a folder."""

    def __init__(self, folder: Path, nonces: Nonces) -> None:
        self._nonces = nonces
        keys = PublicKeys(folder, lambda fault: log.error("%s", fault), VerifyKey)
        self._verifier = Verifier(keys, self._use)

    async def refusal(self, claim: Claim, method: str, target: str, body_sha256: str) -> Refusal | None:
        """Check here, which takes about 0.1 ms, but record the nonce in a thread if that blocks."""
        refusal = self._verifier.refusal(claim, method, target, body_sha256)
        if refusal is None and self._nonces.blocks:
            return await use_nonce_of(claim, self._nonces)
        return refusal

    def _use(self, nonce: bytes, at: float) -> Refusal | None:
        return None if self._nonces.blocks else use_nonce(self._nonces, nonce, at)


async def use_nonce_of(claim: Claim, nonces: Nonces) -> Refusal | None:
    """Record the nonce of a claim, in a thread if that blocks; returns why it is refused, or None."""
    nonce = bytes.fromhex(claim.nonce)
    if not nonces.blocks:
        return use_nonce(nonces, nonce, claim.at)
    return await asyncio.get_running_loop().run_in_executor(_threads(), use_nonce, nonces, nonce, claim.at)


@cache
def _threads() -> ThreadPoolExecutor:
    """The threads that wait for a store of nonces; further claims wait for a free one."""
    return ThreadPoolExecutor(NONCE_THREADS, "nonces")


def use_nonce(nonces: Nonces, nonce: bytes, at: float) -> Refusal | None:
    """Record a nonce; returns why it is refused, or None. `at` is when it was signed (epoch seconds)."""
    if at < nonces.since():
        return Refusal.TIMESTAMP_OUT_OF_WINDOW
    return None if nonces.use(nonce) else Refusal.NONCE_REPLAYED
