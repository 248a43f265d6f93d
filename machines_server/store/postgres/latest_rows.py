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

_UP_STATES = ("ok", "busy")


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

    @property
    def is_up(self) -> bool:
        """Whether the endpoint answers or is busy."""
        return self.state in _UP_STATES


class LatestRows:
    """Collects the rows of a transaction, and writes them in as few statements as their order allows.

    After an outage a transaction has many polls of each endpoint. Of those, only the first, the last, and a
    few of those that change something are written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._layers: list[dict[tuple[int, str], LatestRow]] = []
        """Written one after the other; each has at most one row of an endpoint."""
        self._newest: dict[tuple[int, str], int] = {}
        """The last layer that has a row of an endpoint."""
        self._is_made = self._has_written = False

    def add(self, row: LatestRow) -> None:
        """Add a row, to be written after earlier ones."""
        key = row.machine_id, row.endpoint
        layer = self._newest.get(key, -1)
        # The lowest row stays as it is: what the table has is not known here.
        below = self._layers[layer - 1][key] if layer > 0 else None
        both = _combined(below, self._layers[layer][key], row) if below else None
        if both is None:
            layer += 1
            if layer == len(self._layers):
                self._layers.append({})
            self._newest[key] = layer
        self._layers[layer][key] = both or row

    def write(self) -> None:
        """Write the rows that were added."""
        if not self._layers:
            return
        if not self._is_made:
            self._connection.execute(_MAKE_INCOMING)
            self._is_made = not self._connection.is_pooled
        cursor = self._connection.cursor()
        for rows in self._layers:
            if self._has_written:
                cursor.execute("DELETE FROM incoming")
            with cursor.copy(_COPY) as copy:
                copy.set_types(_COLUMN_TYPES)
                for row in rows.values():
                    copy.write_row(row)
            cursor.execute(_MERGE)
            self._has_written = True
        self._forget()

    def begin(self) -> None:
        """Note that a transaction has begun, in which the table of incoming rows is empty."""
        self._has_written = False

    def clear(self) -> None:
        """Forget the rows that were not written; the transaction may have been rolled back."""
        self._forget()
        self._is_made = False

    def _forget(self) -> None:
        self._layers.clear()
        self._newest.clear()


def _combined(below: LatestRow, before: LatestRow, row: LatestRow) -> LatestRow | None:
    """The one row that, after `below`, has the same effect as `before` and `row`.

    None if the URL changes, or if `before` may change the time since when the endpoint is up.
    """
    if not below.url == before.url == row.url or (row.is_up and below.is_up != before.is_up):
        return None
    if row.answered_at_ms is not None:
        return row
    return row._replace(
        answered_at_ms=before.answered_at_ms,
        clock_ahead_s=before.clock_ahead_s,
        models=before.models,
        host=before.host,
    )
