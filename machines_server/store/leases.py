"""`coordination.db`: leases, which web workers of several processes make, and how long loads lasted.

A rollback journal and `BEGIN IMMEDIATE`: one decision at a time, whichever process makes it, and a process
that is killed in the middle leaves nothing behind. The file may be deleted at any time.
"""

import fcntl
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from machines_server.core.advice import Candidate
from machines_server.core.fleet import Fleet, loaded_in_s
from machines_server.core.leases import Lease, Warmth
from machines_server.core.loading import LATEST_LOADS, LoadTime
from machines_server.core.memory import Share
from machines_server.core.model_names import model_key
from machines_server.errors import ConflictError, StoreError, UnknownLeaseError
from machines_server.store.connection import inode, open_coordination, transaction, translated
from machines_server.store.migrate import known_migrations, migrate

log = logging.getLogger(__name__)

_LEFT_MS = "iif(boot = :boot, ends_boot_ms - :boot_ms, ends_at_ms - :now_ms)"
_ENDS_AT_MS = f"iif(abs(ends_at_ms - :now_ms - {_LEFT_MS}) < 1000, ends_at_ms, :now_ms + {_LEFT_MS})"
"""As it was first told, unless the wall clock was set meanwhile."""
_FIELDS = {
    **{name: name for name in ("id", "machine", "hostname", "port", "model", "digest", "warmth", "shares")},
    **{name: name for name in ("holder", "ttl_s", "load_s")},
    "created_at": "created_at_ms / 1000.0",
    "ends_in_s": f"{_LEFT_MS} / 1000.0",
    "ends_at": f"{_ENDS_AT_MS} / 1000.0",
}
"""What a Lease is made of, as SQL."""
_COLUMNS = ", ".join(_FIELDS.values())
EXPIRED_S = 600.0
"""For so long it is remembered that a lease ran out."""
PATIENT_MS, IMPATIENT_MS, LATELY_S = 3000, 100, 10.0
"""How long a question waits while another program locks the file, and how long when one has lately waited in
vain: whoever waits, or waits for one who does, has one of the server's few threads."""
_READ, _WRITE = "read", "write"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@dataclass(frozen=True, slots=True)
class Book:
    """The leases that have not ended, and how long loads lasted, oldest first."""

    leases: Sequence[Lease] = ()
    load_times: Sequence[LoadTime] = ()


class Request(NamedTuple):
    """Who asks for a lease: `key` makes a repetition of the same `text` the same lease."""

    holder: str
    ttl_s: float
    text: str
    key: str | None = None


class LeaseBook:
    """Keeps the leases; may be shared by threads, not over a fork. Every method may raise StoreError.

    Those that write are told what stands of the `fleet`: in it they see which loads have ended.
    """

    def __init__(self, path: Path) -> None:
        """Opens nothing before the first question."""
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._has_turn = False
        self._patience_ms = PATIENT_MS
        self._locked: dict[str, tuple[float, str]] = {}

    def read(self) -> Book:
        """What holds now."""
        if inode(self._path) is None:
            return Book()
        with self._alone(_READ), self._open() as connection:
            return _read(connection)

    def expired(self) -> int:
        """How many leases have run out in the last ten minutes, not being released."""
        if inode(self._path) is None:
            return 0
        sql = (
            "SELECT (SELECT count(*) FROM expired WHERE ended_at_ms > :from_ms) + (SELECT count(*) FROM lease"
            f" WHERE {_LEFT_MS} <= 0 AND :now_ms + {_LEFT_MS} > :from_ms)"
        )
        with self._alone(_READ), self._open() as connection:
            (count,) = connection.execute(sql, _now()).fetchone()
            return int(count)

    def reserve(self, fleet: Fleet, request: Request, choose: Callable[[Book], Candidate]) -> Lease:
        """A lease on what `choose` picks in view of all others, in one step with it.

        A request that was made before under the same key has the lease it had. Raises what `choose` raises,
        and ConflictError when the key belongs to another request.
        """
        with self._writing(fleet) as connection:
            if request.key is not None and (known := _by_key(connection, request)):
                return known
            return _insert(connection, request, choose(_read(connection)))

    def renew(self, fleet: Fleet, lease: str, ttl_s: float | None, check: Callable[[Lease], None]) -> Lease:
        """Let a lease begin its time anew, unless `check` raises; UnknownLeaseError when it has ended."""
        with self._writing(fleet) as connection:
            found = _by_id(connection, lease)
            check(found)
            connection.execute(
                "UPDATE lease SET ttl_s = :ttl_s, boot = :boot, ends_at_ms = :now_ms + :ttl_ms,"
                " ends_boot_ms = :boot_ms + :ttl_ms WHERE id = :id",
                {**_now(), **_ttl(ttl_s or found.ttl_s), "id": lease},
            )
            return _by_id(connection, lease)

    def release(self, fleet: Fleet, lease: str) -> Lease:
        """End a lease; UnknownLeaseError when it has ended already."""
        with self._writing(fleet) as connection:
            found = _by_id(connection, lease)
            connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
            return found

    @contextmanager
    def _writing(self, fleet: Fleet) -> Iterator[sqlite3.Connection]:
        with self._alone(_WRITE), self._turn(), self._open() as connection, transaction(connection):
            self._learn(connection, fleet)
            _sweep(connection)
            yield connection

    @contextmanager
    def _alone(self, purpose: str) -> Iterator[None]:
        """One thread after the other; those who waited for one that found the file locked have waited enough.

        Each for its own purpose: another program that is about to write lets us read.
        """
        came_at = time.monotonic()
        with self._lock:
            locked_at, fault = self._locked.get(purpose, (float("-inf"), ""))
            if locked_at >= came_at:
                raise StoreError(fault)
            was_locked = any(came_at - at < LATELY_S for at, _ in self._locked.values())
            self._be_patient(IMPATIENT_MS if was_locked else PATIENT_MS)
            try:
                yield
            except StoreError as error:
                if _code(error) == sqlite3.SQLITE_BUSY:
                    self._locked[purpose] = time.monotonic(), str(error)
                raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One process after the other, in the order in which they came.

        SQLite itself waits by sleeping, for up to 100 ms at a time, while others go first. A worker that was
        stopped in its turn is ended by gunicorn after half a minute.
        """
        if self._has_turn:
            yield
            return
        with self._lock_file() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._has_turn = True
            try:
                yield
            finally:
                self._has_turn = False

    def _lock_file(self) -> BinaryIO:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._path.with_suffix(".lock").open("ab")
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened for writing: {error}") from error

    def _learn(self, connection: sqlite3.Connection, fleet: Fleet) -> None:
        """Note how long the loads lasted that have ended, before their leases are forgotten."""
        sql = f"SELECT size_bytes, {_COLUMNS} FROM lease WHERE NOT is_learned"
        for size_bytes, *row in connection.execute(sql, _now()).fetchall():
            lease = _lease(row)
            load_s = loaded_in_s(lease, fleet)
            if load_s is None:
                continue
            key = model_key(lease.model)
            connection.execute("UPDATE lease SET is_learned = 1 WHERE id = ?", (lease.id,))
            connection.execute(
                "INSERT INTO load_time (machine, key, size_bytes, load_s) VALUES (?, ?, ?, ?)",
                (lease.machine, key, size_bytes, load_s),
            )
            connection.execute(
                "DELETE FROM load_time WHERE machine = :machine AND key = :key AND id NOT IN (SELECT id FROM"
                " load_time WHERE machine = :machine AND key = :key ORDER BY id DESC LIMIT :most)",
                {"machine": lease.machine, "key": key, "most": LATEST_LOADS},
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection to the file that is there now; a damaged one is moved aside, and the next is new."""
        if self._connection is not None and inode(self._path) != self._inode:
            self._close()
        try:
            with translated(self._path):
                if self._connection is None:
                    # Not while another still writes one that was deleted: their journals have one name.
                    with self._turn():
                        self._connection, self._inode = self._connect(), inode(self._path)
                yield self._connection
        except StoreError as error:
            if _code(error) in _DAMAGED:
                self._close()
                aside = self._path.with_name(f"{self._path.name}.damaged")
                log.error("%s; it is moved to %s, and its leases are lost", error, aside.name)
                self._path.replace(aside)
            raise

    def _connect(self) -> sqlite3.Connection:
        # Not to be read only: somebody may have been killed in the middle, which only a writer can undo.
        opened = partial(open_coordination, timeout_ms=self._patience_ms)
        migrate(self._path, known_migrations(_FOLDER), opened, opened)
        return opened(self._path)

    def _be_patient(self, patience_ms: int) -> None:
        if patience_ms != self._patience_ms:
            self._patience_ms = patience_ms
            if self._connection is not None:
                self._connection.execute(f"PRAGMA busy_timeout = {patience_ms}")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _code(error: StoreError) -> int:
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF


_FOLDER = files("machines_server.migrations") / "coordination"


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _now() -> dict[str, Any]:
    """This moment on the wall clock, and since the boot, which the setting of a clock does not change."""
    boot_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    now_ms = time.time_ns() // 1_000_000
    from_ms = now_ms - round(EXPIRED_S * 1000)
    return {"now_ms": now_ms, "from_ms": from_ms, "boot_ms": boot_ms, "boot": _boot()}


def _ttl(ttl_s: float) -> dict[str, float]:
    return {"ttl_s": ttl_s, "ttl_ms": round(ttl_s * 1000)}


def _sweep(connection: sqlite3.Connection) -> None:
    """Take out the leases that have run out, and remember when they did."""
    sql = f"DELETE FROM lease WHERE {_LEFT_MS} <= 0 RETURNING :now_ms + {_LEFT_MS}"
    ended = connection.execute(sql, _now()).fetchall()
    if ended:
        connection.executemany("INSERT INTO expired VALUES (?)", ended)
        connection.execute("DELETE FROM expired WHERE ended_at_ms <= :from_ms", _now())


def _read(connection: sqlite3.Connection) -> Book:
    # As one row: at each row that SQLite gives, other threads would go first, while all others wait for us.
    sql = f"SELECT json_group_array(json_array({_COLUMNS})) FROM lease WHERE {_LEFT_MS} > 0"
    (rows,) = connection.execute(sql, _now()).fetchone()
    times = connection.execute("SELECT machine, key, size_bytes, load_s FROM load_time ORDER BY id")
    return Book([_lease(row) for row in orjson.loads(rows)], [LoadTime(*row) for row in times])


def _by_id(connection: sqlite3.Connection, lease: str) -> Lease:
    sql = f"SELECT {_COLUMNS} FROM lease WHERE id = :id"
    row = connection.execute(sql, {**_now(), "id": lease}).fetchone()
    if row is None:
        raise UnknownLeaseError(f"There is no lease {lease!r}: it has expired, or was released.")
    return _lease(row)


def _by_key(connection: sqlite3.Connection, request: Request) -> Lease | None:
    sql = "SELECT id, request FROM lease WHERE idempotency_key = ?"
    row = connection.execute(sql, (request.key,)).fetchone()
    if row is None:
        return None
    if row[1] != request.text:
        raise ConflictError(
            "idempotency_conflict",
            "This Idempotency-Key was used for another request; use a new one for each lease.",
        )
    return _by_id(connection, row[0])


def _insert(connection: sqlite3.Connection, request: Request, candidate: Candidate) -> Lease:
    machine, lease, load = candidate.live.machine, secrets.token_urlsafe(12), candidate.load
    shares = orjson.dumps([[share.of, share.size_bytes] for share in candidate.shares]).decode()
    connection.execute(
        "INSERT INTO lease VALUES (:id, :machine, :hostname, :port, :model, :digest, :warmth, :shares,"
        " :holder, :ttl_s, :now_ms, :now_ms + :ttl_ms, :boot, :boot_ms + :ttl_ms, :load_s, :size_bytes,"
        " :is_learned, :key, :request)",
        {
            **_now(),
            "id": lease,
            "machine": machine.name,
            "hostname": machine.hostname,
            "port": machine.port,
            "model": candidate.model,
            "digest": candidate.digest,
            "warmth": candidate.warmth,
            "shares": shares,
            "holder": request.holder,
            **_ttl(request.ttl_s),
            "load_s": load.load_s if load else None,
            "size_bytes": load.needs_bytes if load else None,
            "is_learned": candidate.warmth is not Warmth.COLD,
            "key": request.key,
            "request": request.text,
        },
    )
    return _by_id(connection, lease)


def _lease(row: Sequence[Any]) -> Lease:
    values = dict(zip(_FIELDS, row, strict=True))
    shares = tuple(Share(*share) for share in orjson.loads(values["shares"]))
    return Lease(**values | {"warmth": Warmth(values["warmth"]), "shares": shares})
