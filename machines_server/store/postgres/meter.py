"""Measures the database."""

from machines_server.errors import StoreError
from machines_server.store.postgres.database import Database
from machines_server.store.values import StoreSizes


class PostgresMeter:
    """Implements StoreMeter; there are no rollups here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sizes(self) -> StoreSizes:
        """The size of the database; empty if it cannot be read."""
        try:
            with self._database.transaction() as connection:
                ((size,),) = connection.execute("SELECT pg_database_size(current_database())").fetchall()
        except StoreError:
            return StoreSizes({}, {})
        return StoreSizes({"postgresql": size}, {})

    def due_rollups(self, now: float) -> int:  # noqa: ARG002  the protocol names it
        """None are ever due."""
        return 0
