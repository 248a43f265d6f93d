"""The real PgBouncer, in transaction mode before a PostgreSQL."""

from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.ports import free_port
from tests.postgres import Postgres, as_user
from tests.programs import Program
from tests.tools import tool

_CONFIG = """
[databases]
* = host=127.0.0.1 port={upstream}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 500
default_pool_size = 30
"""


class PgBouncer(Program):
    """A pooler that runs as a context manager; `folder` is one that PostgreSQL can read."""

    def __init__(self, folder: Path, server: Postgres) -> None:
        super().__init__(folder.with_name(f"{folder.name}.log"))
        self.port, self._folder, self._server = free_port(), folder, server

    def before(self, url: str) -> str:
        """The URL of the same database through this pooler."""
        return url.replace(f":{self._server.port}/", f":{self.port}/")

    def _start(self) -> Sequence[str]:
        config = self._folder / "pgbouncer.ini"
        config.write_text(_CONFIG.format(upstream=self._server.port, port=self.port))
        return as_user(tool("pgbouncer"), config)

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.before(self._server.url()), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
