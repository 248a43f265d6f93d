"""PostgreSQL as one of the stores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from machines_server.core.machine import Registry
from machines_server.core.past.rollup import Fold
from machines_server.core.shards import SHARDS
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.past import PostgresPast
from machines_server.store.postgres.present import PostgresPresent
from machines_server.store.postgres.sink import PostgresSink
from machines_server.store.values import SeriesKey, Update

SITE = "lab"
MAX_GAP_S = 12.0


class _Door:
    """A way to a database that can be shut."""

    def __init__(self, url: str) -> None:
        self._url = url

    def shut(self, *, is_shut: bool) -> None:
        name = conninfo_to_dict(self._url)["dbname"]
        with psycopg.connect(self._url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                    sql.Identifier(name), sql.Literal(not is_shut)
                )
            )
            if is_shut:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
                )


class OwnSink(PostgresSink):
    """A sink of a poller that holds all shards; it takes a registry for all that there is."""

    def __init__(self, database: Database, on_fault: Callable[[str | None], None]) -> None:
        self._own = database
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
        super().__init__(database, SITE, "me", max_gap_s=MAX_GAP_S, on_fault=on_fault)
        self.put(Registry(is_whole=False))

    def put(self, item: Update) -> None:
        super().put(replace(item, shards=self._shards) if isinstance(item, Registry) else item)

    def close(self, timeout_s: float = 5.0) -> bool:
        is_closed = super().close(timeout_s)
        if is_closed:
            self._own.close()
        return is_closed


class NoMeasurements:
    """For tests of other things than measurements."""

    def series(self, wanted: Sequence[SeriesKey], *_: Any) -> list[list[tuple[int, Fold]]]:
        return [[] for _ in wanted]


class OwnPresent(PostgresPresent):
    """One whose connections end with it."""

    def __init__(self, url: str) -> None:
        self._own = Database(url)
        self._hears = Listener(self._own)
        super().__init__(self._own, self._hears, SITE, 0.0)

    def close(self) -> None:
        self._hears.close()
        self._own.close()


class OwnPast(PostgresPast):
    """One whose connections end with it."""

    def __init__(self, url: str) -> None:
        self._own = Database(url)
        super().__init__(self._own, SITE, NoMeasurements())

    def close(self) -> None:
        self._own.close()


@dataclass(frozen=True)
class ClusterStores:
    url: str

    def present(self) -> OwnPresent:
        return OwnPresent(self.url)

    def past(self) -> OwnPast:
        return OwnPast(self.url)

    def sink(self, on_fault: Callable[[str | None], None]) -> OwnSink:
        return OwnSink(Database(self.url), on_fault)

    def break_off(self) -> None:
        _Door(self.url).shut(is_shut=True)

    def mend(self) -> None:
        _Door(self.url).shut(is_shut=False)
