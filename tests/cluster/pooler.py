"""PgBouncer in transaction mode in front of a PostgreSQL."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.ports import free_port
from tests.postgres import USER, Postgres, as_user, through
from tests.programs import Program
from tests.tools import tool

_CONFIG = """
[databases]
{database} = host=127.0.0.1 port={server_port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
"""


class Pooler(Program):
    """A pooler for one database, whose `url` leads through it."""

    def __init__(self, folder: Path, postgres: Postgres, url: str) -> None:
        """`folder` can be read by the user of PostgreSQL."""
        super().__init__(folder / "pooler.log")
        port = free_port()
        self.url = through(url, port)
        self._config = folder / "pooler.ini"
        database = urlsplit(url).path.lstrip("/")
        text = _CONFIG.format(database=database, server_port=postgres.port, port=port, user=USER)
        self._config.write_text(text)
        if not os.getuid():
            shutil.chown(self._config, USER, USER)

    def _start(self) -> Sequence[str]:
        return as_user(tool("pgbouncer"), self._config)

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
