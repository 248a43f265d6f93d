"""Connections to PostgreSQL for the threads of one process."""

import logging
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, LiteralString, Self

import psycopg
from psycopg import conninfo, pq
from psycopg_pool import ConnectionPool, PoolTimeout

from machines_server.errors import StoreError, UnreachableStoreError
from machines_server.store.postgres.deadlines import Deadlines
from machines_server.store.postgres.failures import store_errors, unreachable

DEADLINE_S = 5.0
"""How long a transaction may take."""
CONNECT_WAIT_S = 3.0
"""How long a call waits for a connection."""
AWAY_S = 1.0
"""How long calls fail immediately after one has timed out waiting for a connection."""
_MAX_IDLE_S = 60.0
_OLDEST_VERSION = 13_00_00
_LINE: dict[str, Any] = {
    "target_session_attrs": "read-write",
    "connect_timeout": 2,
    "application_name": "machines-server",
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000,
}
"""Defaults that a URL may override: connect only to a primary, and detect a dead connection in seconds."""
_SERVER_SIDE = (
    "SET statement_timeout = '10s'; SET lock_timeout = '3s'; SET idle_in_transaction_session_timeout = '10s';"
    " SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2;"
    " SET synchronous_commit = local"
)
"""Sent to the server, which could otherwise wait for hours on a dead connection; poolers keep no settings."""

_CAN_ROLL_BACK = pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR

# Warnings of psycopg and its pool tell of single attempts and connections; a call that fails says why.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Row = tuple[Any, ...]


class Connection(psycopg.Connection[Row]):
    """A connection that knows whether it is pooled, and whether a commit was not replicated."""

    is_pooled = False
    """Whether it goes through a pooler such as PgBouncer: then no state outlives a transaction."""
    is_unreplicated = False
    """Whether a transaction was committed only on this server although it should be on a standby as well."""


class Database:
    """A pool of connections, opened by the first call; for several threads, not for several processes."""

    def __init__(self, url: str, password_file: Path | None = None, *, most: int = 8) -> None:
        """Opens at most `most` connections; the password is read anew for each."""
        self._url, self._password_file, self._most = url, password_file, most
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None
        self._deadlines = Deadlines()
        self._away_since = self._failed_at = float("-inf")
        self._away = self._failure = ""
        """Why calls fail at once, and why the latest connection could not be made."""

    def connection_info(self) -> str:
        """How to connect, with the password; raises StoreError."""
        try:
            given = conninfo.conninfo_to_dict(self._url)
            if self._password_file is not None:
                given["password"] = self._password_file.read_text("utf-8").strip("\r\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise StoreError(f"the file of the database's password cannot be read: {reason}") from error
        except psycopg.Error as error:
            raise StoreError("MACHINES_DATABASE_URL is not the URL of a PostgreSQL database") from error
        return conninfo.make_conninfo("", **{**_LINE, **given})

    @contextmanager
    def transaction(self, deadline_s: float = DEADLINE_S, *, pipelined: bool = False) -> Iterator[Connection]:
        """A transaction, committed when the block ends and rolled back if it raises; raises StoreError.

        The commit waits for no standby, except after `wait_for_standbys`. After an error, the caller may not
        know whether it was committed. If `pipelined`, a statement does not wait for those before it: its rows
        and count are known, and its error is raised, once the rows of it or of a later one are fetched, or
        else when the block ends.
        """
        with store_errors(), self._connected(None if pipelined else deadline_s) as connection:
            with self._deadlines.within(connection, deadline_s), _committed(connection, pipelined=pipelined):
                yield connection
            if connection.is_unreplicated:
                connection.close()
                raise UnreachableStoreError(
                    "PostgreSQL: its standby does not answer, so no leases can be granted"
                )

    def run(
        self, statement: LiteralString, values: Mapping[str, Any], deadline_s: float = DEADLINE_S
    ) -> list[Row]:
        """Run one statement, in one round trip, and return its rows; raises StoreError.

        It waits for no standby.
        """
        with store_errors(), self._connected() as connection, self._deadlines.within(connection, deadline_s):
            if not connection.is_pooled:
                return connection.execute(statement, values).fetchall()
            with _committed(connection, pipelined=True):
                found = connection.execute(statement, values)
            return found.fetchall()

    def close(self) -> None:
        """Close all connections; the next call opens others."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=1.0)

    def connect(self) -> Connection:
        """A separate connection outside of the pool; raises StoreError."""
        with store_errors():
            connection = Connection.connect(self.connection_info(), autocommit=True)
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    @contextmanager
    def _connected(self, begin_within_s: float | None = None) -> Iterator[Connection]:
        """A pooled connection; with `begin_within_s`, one on which a transaction has begun within that time.

        Those that broke while nobody used them are replaced. One that breaks at this moment is only noticed
        where a transaction begins.
        """
        pool = self._pool_of_connections()
        until = time.monotonic() + min(begin_within_s or CONNECT_WAIT_S, CONNECT_WAIT_S)
        for _ in range(self._most + 1):
            connection = self._connection_of(pool)
            try:
                is_usable = not _has_ended(connection)
                if is_usable and (begin_within_s is None or self._has_begun(connection, until)):
                    yield connection
                    return
                connection.close()
            finally:
                pool.putconn(connection)
        raise UnreachableStoreError("PostgreSQL cannot be reached: it closes every connection")

    def _has_begun(self, connection: Connection, until: float) -> bool:
        """Whether a transaction has begun; raises UnreachableStoreError if that takes until then."""
        try:
            with self._deadlines.within(connection, max(until - time.monotonic(), 0.0), cancels=False):
                begin(connection)
        except psycopg.OperationalError:
            return False
        except UnreachableStoreError:
            self._away, self._away_since = "PostgreSQL does not answer", time.monotonic()
            raise UnreachableStoreError(self._away) from None
        return True

    def _connection_of(self, pool: ConnectionPool[Connection]) -> Connection:
        if time.monotonic() - self._away_since < AWAY_S:
            raise UnreachableStoreError(self._away)
        began = time.monotonic()
        try:
            return pool.getconn(CONNECT_WAIT_S)
        except PoolTimeout as error:
            self._away = self._failure if self._failed_at >= began else unreachable(error)
            self._away_since = time.monotonic()
            raise UnreachableStoreError(self._away) from error

    def _note_failure(self, error: Exception) -> None:
        self._failure = str(error) if isinstance(error, StoreError) else unreachable(error)
        self._failed_at = time.monotonic()

    def _info_for_pool(self) -> str:
        try:
            return self.connection_info()
        except StoreError as error:
            self._note_failure(error)
            raise

    def _prepare_for_pool(self, connection: Connection) -> None:
        try:
            _prepare(connection)
        except (StoreError, psycopg.Error) as error:
            self._note_failure(error)
            raise

    def _pool_of_connections(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._info_for_pool,
                    connection_class=_telling_of_failures(self._note_failure),
                    kwargs={"autocommit": True},
                    min_size=0,
                    max_size=self._most,
                    max_idle=_MAX_IDLE_S,
                    configure=self._prepare_for_pool,
                    timeout=CONNECT_WAIT_S,
                    reconnect_timeout=CONNECT_WAIT_S,
                    open=True,
                )
            return self._pool


def _telling_of_failures(note: Callable[[Exception], None]) -> type[Connection]:
    """A Connection class that reports why connecting failed, which a pool does not pass on."""

    class Telling(Connection):
        @classmethod
        def connect(cls, conninfo: str = "", **options: Any) -> Self:
            try:
                return super().connect(conninfo, **options)
            except psycopg.Error as error:
                note(error)
                raise

    return Telling


def begin(connection: Connection) -> None:
    """Begin a transaction whose commit waits only for the primary's disk: polls go on without a standby."""
    connection.execute("BEGIN")
    if connection.is_pooled:  # others have it for the whole session
        connection.execute("SET LOCAL synchronous_commit = local")


def wait_for_standbys(connection: Connection) -> None:
    """Let the commit of this transaction wait also for the standbys that the server waits for."""
    connection.execute("SET LOCAL synchronous_commit = on")


@contextmanager
def _committed(connection: Connection, *, pipelined: bool) -> Iterator[None]:
    """Commit when the block ends, and roll back if it raises; if `pipelined`, begin as well."""
    try:
        with connection.pipeline() if pipelined else nullcontext():
            if pipelined:
                begin(connection)
            yield
            connection.execute("COMMIT")
    except BaseException:
        if connection.info.transaction_status in _CAN_ROLL_BACK:
            # Unlike a ROLLBACK statement, this also forgets statements that psycopg believes
            # to be prepared, although an earlier error kept the server from preparing them.
            connection.rollback()
        raise


def _has_ended(connection: Connection) -> bool:
    """Whether the server, or something in between, has ended an idle connection; sends nothing."""
    poll = select.poll()  # select() accepts no file descriptor above 1,023, and a poller has more
    poll.register(connection.fileno(), select.POLLIN)
    with suppress(psycopg.OperationalError):
        for _ in range(2):  # first the reason, then the end
            if poll.poll(0):
                connection.pgconn.consume_input()
    return connection.pgconn.status != pq.ConnStatus.OK


def _prepare(connection: Connection) -> None:
    """Set up a new connection."""
    if (version := connection.info.server_version) < _OLDEST_VERSION:
        raise StoreError(f"PostgreSQL {version // 10_000} is too old: version 13 or later is needed")
    ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    connection.is_pooled = pid != connection.info.backend_pid
    if connection.is_pooled:
        connection.prepare_threshold = None
    else:
        connection.execute(_SERVER_SIDE)

    def note(notice: psycopg.errors.Diagnostic) -> None:
        # A warning (01000) on COMMIT: it waited in vain for a standby.
        if notice.sqlstate == "01000":
            connection.is_unreplicated = True

    connection.add_notice_handler(note)
