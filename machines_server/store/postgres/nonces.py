"""The nonces of signed requests in PostgreSQL, in tables that are empty after a crash or a failover."""

import time

from machines_server.errors import UnreachableStoreError
from machines_server.store.postgres.clock import DatabaseClock
from machines_server.store.postgres.database import Database

KEEP_NONCES_MS = 400_000
"""Nonces are kept for one to two such periods; a signature is valid for 360 s at most."""
_LONGEST_USE_S = 2.0


class PostgresNonces:
    """Implements Nonces, for several threads; each use is one round trip."""

    blocks = True

    def __init__(self, database: Database, period_ms: int = KEEP_NONCES_MS) -> None:
        self._database, self._period_ms = database, period_ms
        self._clock = DatabaseClock()
        self._since_ms: int | None = None

    def use(self, nonce: bytes) -> bool:
        """Record a nonce; returns False if it has been recorded before."""
        known_ms, is_new, since_ms = self._since_ms, *self._ask(nonce)
        if known_ms not in (None, since_ms):
            raise UnreachableStoreError(
                "PostgreSQL has lost the list of used signatures; sign the request again"
            )
        return is_new

    def since(self) -> float:
        """When recording began: older signatures may have been used before."""
        since_ms = self._since_ms
        if since_ms is None:
            _, since_ms = self._ask(None)
        return since_ms / 1000 - self._clock.ahead_s

    def close(self) -> None:
        """Nothing to close: everything is shared."""

    def _ask(self, nonce: bytes | None) -> tuple[bool, int]:
        values = {"nonce": nonce, "period_ms": self._period_ms}
        began = time.time()
        ((is_new, since_ms, at_ms),) = self._database.run(
            "SELECT * FROM use_nonce(%(nonce)s, %(period_ms)s)", values, _LONGEST_USE_S
        )
        self._clock.note(at_ms / 1000, began, time.time())
        self._since_ms = since_ms
        return is_new, since_ms
