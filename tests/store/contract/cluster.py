"""What a test of PostgreSQL needs that does not divide machines among pollers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from machines_server.core.machine import Registry
from machines_server.core.past.rollup import Fold
from machines_server.core.shards import SHARDS
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.poll_writer import PollerId
from machines_server.store.postgres.sink import PostgresSink
from machines_server.store.values import SeriesKey, Update

SITE = "lab"
MAX_GAP_S = 12.0


class SinkOfAll(PostgresSink):
    """A sink of a poller that holds all shards; it takes a registry for all that there is."""

    def __init__(self, database: Database, on_fault: Callable[[str | None], None]) -> None:
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO shard (site, number) SELECT %s, generate_series(0, %s) ON CONFLICT DO NOTHING",
                (SITE, SHARDS - 1),
            )
            connection.execute(
                "INSERT INTO poller"
                " (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)"
                " VALUES ('me', %s, 'here', 1, 0, 0, '', 5, 2) ON CONFLICT DO NOTHING",
                (SITE,),
            )
            rows = connection.execute(
                "UPDATE shard SET owner = 'me', epoch = epoch + 1 WHERE site = %s RETURNING number, epoch",
                (SITE,),
            )
            self._shards: dict[int, int] = dict(rows.fetchall())
        super().__init__(database, PollerId("me", SITE, "here"), max_gap_s=MAX_GAP_S, on_fault=on_fault)
        self.put(Registry(is_whole=False))

    def put(self, item: Update) -> None:
        super().put(replace(item, shards=self._shards) if isinstance(item, Registry) else item)


class NoMeasurements:
    """For tests of other things than measurements."""

    def series(self, wanted: Sequence[SeriesKey], *_: Any) -> list[list[tuple[int, Fold]]]:
        return [[] for _ in wanted]
