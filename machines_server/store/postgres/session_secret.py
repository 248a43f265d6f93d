"""The session secret in PostgreSQL, so that a session is valid on all servers of a site."""

import secrets
import threading
import time

from machines_server.errors import StoreError
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Connection, Database
from machines_server.store.postgres.listener import Listener

SESSIONS_CHANNEL = "machines_sessions"
"""Where a new secret is announced; the payload is the site."""
MAX_SECRET_AGE_S = 10.0
"""How long sessions that were ended elsewhere may continue if the announcement is lost."""
_SECRET_BYTES = 32
_REPLACE = """
INSERT INTO session_secret VALUES (%s, %s) ON CONFLICT (site) DO UPDATE SET secret = EXCLUDED.secret"""
_MAKE = "INSERT INTO session_secret VALUES (%s, %s) ON CONFLICT DO NOTHING"


class SharedSecret:
    """Implements SessionSecret; for several threads."""

    def __init__(self, database: Database, site: str, listener: Listener, background: Background) -> None:
        self._database, self._site = database, site
        self._listener, self._background = listener, background
        self._lock, self._is_subscribed = threading.Lock(), False
        self._secret: bytes | None = None
        self._read_at = float("-inf")

    def current(self) -> bytes:
        """The secret, created if there is none; raises StoreError."""
        secret = self._secret
        if secret is not None and not self._is_due():
            return secret
        with self._database.transaction() as connection:
            return self._read(connection)

    def get_nowait(self) -> bytes | None:
        """The known secret, which is reread in the background."""
        if self._is_due():
            self._background.do(("secret", id(self)), self._read)
        return self._secret

    def replace(self) -> None:
        """Create a new secret; raises StoreError."""
        with self._database.transaction() as connection:
            connection.execute(_REPLACE, (self._site, secrets.token_bytes(_SECRET_BYTES)))
            self._read(connection)
        self._background.announce(SESSIONS_CHANNEL, self._site)

    def _is_due(self) -> bool:
        return time.monotonic() - self._read_at >= MAX_SECRET_AGE_S

    def _read(self, connection: Connection) -> bytes:
        self._subscribe()
        began_at = time.monotonic()
        sql, values = "SELECT secret FROM session_secret WHERE site = %s", (self._site,)
        found = connection.execute(sql, values).fetchone()
        if found is None:
            connection.execute(_MAKE, (self._site, secrets.token_bytes(_SECRET_BYTES)))
            found = connection.execute(sql, values).fetchone()
        if found is None:
            raise StoreError("PostgreSQL: the session secret cannot be stored")
        self._secret, self._read_at = bytes(found[0]), began_at
        return self._secret

    def _subscribe(self) -> None:
        with self._lock:
            if not self._is_subscribed:
                self._is_subscribed = True
                self._listener.subscribe(SESSIONS_CHANNEL, self._hear, self._read_again)

    def _hear(self, site: str) -> None:
        if site == self._site:
            self._read_again()

    def _read_again(self) -> None:
        self._read_at = float("-inf")
        self._background.do(("secret", id(self)), self._read)
