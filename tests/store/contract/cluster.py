"""Helpers for tests of PostgreSQL that do not divide machines among pollers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from machines_server.core.machine import Registry
from machines_server.core.past.rollup import Fold
from machines_server.core.shards import SHARDS
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.poll_writer import PollerId
from machines_server.store.postgres.sink import PostgresSink
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.promql.writer import HistoryWriter
from machines_server.store.values import Update
from tests.store.promql.engines import Engine

MAX_GAP_S = 12.0


class SinkOfAll(PostgresSink):
    """A sink of a poller that holds all shards; it takes a registry for all that there is."""

    def __init__(
        self, database: Database, site: str, history: HistoryWriter, on_fault: Callable[[str | None], None]
    ) -> None:
        self._history, self._site = history, site
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO shard (site, number) SELECT %s, generate_series(0, %s) ON CONFLICT DO NOTHING",
                (self._site, SHARDS - 1),
            )
            connection.execute(
                "INSERT INTO poller"
                " (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)"
                " VALUES ('me', %s, 'here', 1, 0, 0, '', 5, 2) ON CONFLICT DO NOTHING",
                (self._site,),
            )
            rows = connection.execute(
                "UPDATE shard SET owner = 'me', epoch = epoch + 1 WHERE site = %s RETURNING number, epoch",
                (self._site,),
            )
            self._shards: dict[int, int] = dict(rows.fetchall())
        super().__init__(
            database,
            PollerId("me", self._site, "here"),
            max_gap_s=MAX_GAP_S,
            on_fault=on_fault,
            measurements=history,
        )
        self.put(Registry(is_whole=False))

    def put(self, item: Update) -> None:
        super().put(replace(item, shards=self._shards) if isinstance(item, Registry) else item)

    def close(self, timeout_s: float = 5.0) -> bool:
        return super().close(timeout_s) and self._history.close()


class Flushed(PromqlSeries):
    """Finds everything that was sent, also what came a moment ago."""

    def __init__(self, engine: Engine, url: str, site: str) -> None:
        super().__init__(url, site=site)
        self._engine = engine

    def series(self, *question: Any) -> list[list[tuple[int, Fold]]]:
        self._engine.flush()
        return super().series(*question)
