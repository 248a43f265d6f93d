"""Writes events, all of a transaction together."""

from machines_server.core.past.events import Event
from machines_server.store.postgres.database import Connection
from machines_server.store.sql.events import event_row

_COUNT = "UPDATE event_counter SET value = value + %s RETURNING value"
_ADD_EVENTS = """
INSERT INTO event (id, at_ms, machine_id, type, detail)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::int[], %s::text[], %s::text[])"""


class PostgresEvents:
    """Implements EventTable; nothing is written before `write`.

    Ids of events follow the order of transactions, so taking some makes other writers wait until the end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[tuple[int, int, str, str]] = []

    def add(self, machine: int, event: Event) -> None:
        """Add an event of the machine with that id."""
        self._rows.append(event_row(machine, event))

    def write(self) -> None:
        """Write the events that were added; to be called just before the transaction is committed."""
        if self._rows:
            ((last,),) = self._connection.execute(_COUNT, (len(self._rows),)).fetchall()
            ids = list(range(last - len(self._rows) + 1, last + 1))
            self._connection.execute(_ADD_EVENTS, (ids, *map(list, zip(*self._rows, strict=True))))
            self._rows.clear()

    def clear(self) -> None:
        """Forget the events that were not written."""
        self._rows.clear()
