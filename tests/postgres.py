"""The real PostgreSQL, as a plain process with a folder of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from machines_server.store.postgres.database import Database
from machines_server.store.postgres.migrate import migrate
from tests.fakes import wait_until
from tests.ports import free_port
from tests.programs import Program
from tests.tools import tool

USER = "postgres"
_TEMPLATE = "migrated"
_SESSIONS = "SELECT FROM pg_stat_activity WHERE datname = %s"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "logging_collector": "off",
}


def as_user(*command: str | Path) -> list[str]:
    """A command as a user that PostgreSQL accepts, since it refuses to be run by root."""
    words = [str(word) for word in command]
    if os.getuid():
        return words
    return [tool("setpriv"), f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *words]


def program(name: str) -> Path:
    """The newest installed version of one of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return found[-1] if found else Path(tool("postgres")).with_name(name)


class Postgres(Program):
    """A server that runs as a context manager, with `options` of its configuration file."""

    def __init__(self, folder: Path, port: int | None = None, **options: str) -> None:
        """`folder` holds the cluster, which is made unless there is one."""
        super().__init__(folder.with_name(f"{folder.name}.log"))
        self.folder, self.port = folder, port or free_port()
        self._options = _SETTINGS | options
        self._numbers = count()

    def url(self, database: str = USER) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{quote(database)}"

    def new_database(self) -> str:
        """The URL of a new database that is migrated."""
        name = f"d{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            is_there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [_TEMPLATE])
            if is_there.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
                with closing(Database(self.url(_TEMPLATE))) as database:
                    migrate(database)
                wait_until(lambda: not connection.execute(_SESSIONS, [_TEMPLATE]).fetchall())
            names = sql.Identifier(name), sql.Identifier(_TEMPLATE)
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return self.url(name)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal_all(signal.SIGKILL)
        self._process.wait(60)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its processes."""
        os.killpg(self._process.pid, number)

    def _start(self) -> Sequence[str]:
        if not (self.folder / "PG_VERSION").exists():
            self._make()
        settings = [f"--{name}={value}" for name, value in self._options.items()]
        return as_user(program("postgres"), "-D", self.folder, f"--port={self.port}", *settings)

    def _make(self) -> None:
        words = as_user(
            program("initdb"), "--no-sync", "-D", self.folder, "-U", USER, "-A", "trust", "-E", "UTF8"
        )
        subprocess.run([*words, "--locale=C"], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


@contextmanager
def folder_of_postgres() -> Iterator[Path]:
    """A folder that PostgreSQL can write."""
    folder = Path(tempfile.mkdtemp(prefix="machines-postgres-"))
    try:
        if not os.getuid():
            shutil.chown(folder, USER, USER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
