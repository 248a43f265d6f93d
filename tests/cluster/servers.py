"""Several servers with one PostgreSQL and one engine for the past."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machines_server.core.shards import SHARDS
from machines_server.store.postgres.database import Database
from tests.running import RunningServer
from tests.store.promql.engines import Engine

INTERVAL_S = 2.0


class Servers:
    """Makes servers that share a folder of machine files, a database and an engine."""

    def __init__(
        self, folder: Path, database_url: str, engine: Engine, interval_s: float = INTERVAL_S
    ) -> None:
        self.folder, self.database_url, self.engine = folder, database_url, engine
        self.interval_s = interval_s
        self.machines = folder / "machines"
        self.machines.mkdir(exist_ok=True)
        self.database = Database(database_url)

    def server(self, name: str, *, command: str = "serve", **settings: str) -> RunningServer:
        """A server (or a poller) with a data folder of its own, to be entered."""
        own = self.folder / name
        own.mkdir(exist_ok=True)
        pace = {
            "MACHINES_POLL_INTERVAL_S": f"{self.interval_s:g}",
            "MACHINES_POLL_TIMEOUT_S": f"{0.4 * self.interval_s:g}",
        }
        return RunningServer(
            own,
            command=command,
            **pace,
            MACHINES_WORKERS="1",
            **{**self.settings(), "MACHINES_DIR": str(self.machines), **settings},
        )

    def settings(self) -> Mapping[str, str]:
        """What makes a server one of several."""
        return {
            "MACHINES_DATABASE_URL": self.database_url,
            "MACHINES_REMOTE_WRITE_URL": self.engine.write_url,
            "MACHINES_QUERY_URL": self.engine.url,
        }

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """What a statement finds in the database."""
        with self.database.transaction() as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def owners(self) -> Mapping[str, int]:
        """How many shards each poller holds; all of them are held by somebody."""
        rows = self.rows("SELECT owner, count(*) FROM shard WHERE expires_at_ms > now_ms() GROUP BY owner")
        found: dict[str, int] = dict(rows)
        return found

    def are_divided(self, pollers: int) -> bool:
        """Whether so many pollers hold all shards together."""
        owners = self.owners()
        return len(owners) == pollers and sum(owners.values()) == SHARDS
