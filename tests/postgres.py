"""The real PostgreSQL, as a plain process with a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psutil
import psycopg
from psycopg import sql

from machines_server.errors import StoreError
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.migrate import migrate
from tests.fakes import wait_until
from tests.ports import free_port
from tests.programs import Program
from tests.tools import tool

USER = "postgres"
STANDBY = "s1"
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
        """End it as a crash would, with all its processes, whose memory keeps another one from starting."""
        server = psutil.Process(self._process.pid)
        server.suspend()  # it starts no more processes
        processes = server, *server.children()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(60)
        psutil.wait_procs(processes, 60)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its processes, each of which leads a group of its own."""
        server = psutil.Process(self._process.pid)
        for process in (server, *server.children()):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

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
        if self._process.poll() is None:
            self.signal_all(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)


def succeeds(call: Callable[[], object]) -> bool:
    """Whether a call works now, instead of raising StoreError."""
    try:
        call()
    except StoreError:
        return False
    return True


class Standby(Postgres):
    """A server that follows another one, which runs, until it is promoted."""

    def __init__(self, folder: Path, primary: Postgres, **options: str) -> None:
        super().__init__(folder, None, **options)
        self._primary = primary

    def promote(self) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def _make(self) -> None:
        line = f"host=127.0.0.1 port={self._primary.port} user={USER} application_name={STANDBY}"
        words = "-R", "-X", "stream", "-C", "-S", STANDBY, "-c", "fast", "--no-sync"
        command = as_user(program("pg_basebackup"), "-d", line, "-D", self.folder, *words)
        subprocess.run(command, check=True, cwd="/")


@contextmanager
def pair(folder: Path) -> Iterator[tuple[Postgres, Standby, str]]:
    """A primary, a standby that has all its data and that commits wait for, and the URL of both."""
    with Postgres(folder / "primary") as primary, Standby(folder / "standby", primary) as standby:
        url = primary.new_database()
        with psycopg.connect(primary.url(), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
            connection.execute("SELECT pg_reload_conf()")
            has_all = "sync_state = 'sync' AND replay_lsn >= pg_current_wal_flush_lsn()"
            follows = "SELECT FROM pg_stat_replication WHERE " + has_all
            wait_until(lambda: bool(connection.execute(follows).fetchall()))
        at = f"127.0.0.1:{primary.port}"
        yield primary, standby, url.replace(at, f"{at},127.0.0.1:{standby.port}")


class Gate:
    """Passes connections on to a server on this host; shut, it ends them and refuses others."""

    def __init__(self, server_port: int) -> None:
        self._server_port, self.port = server_port, free_port()
        self._lines: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self.open()

    def open(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port))
        self._listening = listening
        threading.Thread(target=self._accept, args=[listening], daemon=True).start()

    def shut(self) -> None:
        """Wait until nothing passes any more."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        while self._lines:
            with suppress(OSError):
                self._lines.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._lines += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=[one, other], daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while content := one.recv(2**16):
            other.sendall(content)
    with suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)
    one.close()


def through(url: str, port: int) -> str:
    """The URL of the same database through another port of this host."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{parts.hostname}:{port}"))


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


def execute(postgres: Postgres, statement: str) -> None:
    """Run a statement of an administrator, which no transaction may contain."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(statement.encode())
