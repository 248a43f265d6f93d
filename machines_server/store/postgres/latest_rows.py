"""The rows of the latest polls, written together by COPY."""

from typing import NamedTuple

from machines_server.store.postgres.database import Connection

_COLUMNS = (
    "shard_id, machine_id, endpoint, url, state, reason, hint, polled_at_ms, answered_at_ms, clock_ahead_s,"
    " up_since_ms, revision, models, host"
)
_MAKE_INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE latest) ON COMMIT DELETE ROWS"""
_COPY = f"COPY incoming ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_COLUMN_TYPES = (
    *("int4", "int4", "text", "text", "text", "text", "text"),
    *("int8", "int8", "float8", "int8", "int8", "text", "text"),
)
_KEPT_COLUMNS = ", ".join(
    f"{column} = CASE WHEN excluded.answered_at_ms IS NOT NULL THEN excluded.{column}"
    f" WHEN latest.url = excluded.url THEN latest.{column} END"
    for column in ("answered_at_ms", "clock_ahead_s", "models", "host")
)
"""A poll without an answer keeps the last answer, unless that came from another URL."""
_MERGE = f"""
INSERT INTO latest ({_COLUMNS}) SELECT {_COLUMNS} FROM incoming
ON CONFLICT (shard_id, machine_id, endpoint) DO UPDATE SET
    state = excluded.state, reason = excluded.reason, hint = excluded.hint,
    polled_at_ms = excluded.polled_at_ms,
    up_since_ms = CASE WHEN excluded.state NOT IN ('ok', 'busy') THEN NULL
                       WHEN latest.state IN ('ok', 'busy') AND latest.url = excluded.url
                       THEN latest.up_since_ms
                       ELSE excluded.polled_at_ms END,
    {_KEPT_COLUMNS}, url = excluded.url, revision = excluded.revision"""


class LatestRow(NamedTuple):
    """One poll of one endpoint, with the ids of its shard and machine; times are in milliseconds."""

    shard_id: int
    machine_id: int
    endpoint: str
    url: str
    state: str
    reason: str | None
    hint: str | None
    polled_at_ms: int
    answered_at_ms: int | None
    clock_ahead_s: float | None
    up_since_ms: int | None
    revision: int
    models: str | None
    host: str | None


class LatestRows:
    """Collects the rows of a transaction, at most one of each endpoint at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: dict[tuple[int, str], LatestRow] = {}
        self._is_made = self._has_written = False

    def add(self, row: LatestRow) -> None:
        """Add a row, to be written after earlier ones."""
        key = row.machine_id, row.endpoint
        if key in self._rows:
            self.write()
        self._rows[key] = row

    def write(self) -> None:
        """Write the rows that were added."""
        if not self._rows:
            return
        if not self._is_made:
            self._connection.execute(_MAKE_INCOMING)
            self._is_made = not self._connection.is_pooled
        cursor = self._connection.cursor()
        if self._has_written:
            cursor.execute("DELETE FROM incoming")
        with cursor.copy(_COPY) as copy:
            copy.set_types(_COLUMN_TYPES)
            for row in self._rows.values():
                copy.write_row(row)
        cursor.execute(_MERGE)
        self._rows.clear()
        self._has_written = True

    def begin(self) -> None:
        """Note that a transaction has begun, in which the table of incoming rows is empty."""
        self._has_written = False

    def clear(self) -> None:
        """Forget the rows that were not written; the transaction may have been rolled back."""
        self._rows.clear()
        self._is_made = False
