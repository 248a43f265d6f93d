"""How far a source has been copied, kept in the destination."""

from typing import Any, NamedTuple

import orjson

from machines_server.errors import StoreError
from machines_server.store.postgres.database import Connection, Database

_BEGIN_PROGRESS = """
INSERT INTO copied (site, source, part, until) VALUES (%s, %s, %s, 0) ON CONFLICT DO NOTHING"""
_READ_PROGRESS = "SELECT until, detail FROM copied WHERE site = %s AND source = %s AND part = %s"
_ADVANCE_PROGRESS = """
UPDATE copied SET until = %s, detail = %s
WHERE site = %s AND source = %s AND part = %s AND until = %s AND detail = %s"""


class Reached(NamedTuple):
    """Ids up to this one, or times (ms) before this one, and what else is needed to continue."""

    until: int
    detail: dict[str, Any]


class Progress:
    """The progress of one source into one site; each call but `begun` is part of a transaction."""

    def __init__(self, database: Database, site: str, source: str) -> None:
        self._database, self._site, self._source = database, site, source

    def begun(self, part: str) -> Reached:
        """How far a part has come."""
        values = self._site, self._source, part
        with self._database.transaction() as connection:
            connection.execute(_BEGIN_PROGRESS, values)
            ((until, detail),) = connection.execute(_READ_PROGRESS, values).fetchall()
        return Reached(until, dict(orjson.loads(detail)))

    def advance(self, connection: Connection, part: str, before: Reached, after: Reached) -> None:
        """Note what the transaction copies; raises StoreError if another process has copied it meanwhile."""
        values = (
            after.until,
            orjson.dumps(after.detail).decode(),
            self._site,
            self._source,
            part,
            before.until,
            orjson.dumps(before.detail).decode(),
        )
        if connection.execute(_ADVANCE_PROGRESS, values).rowcount != 1:
            raise StoreError("another process is copying the same database; let it finish")
