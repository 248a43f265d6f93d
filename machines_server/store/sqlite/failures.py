"""SQLite's errors as StoreError, told apart by their codes, never by their messages."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import disk_usage

from machines_server.errors import DamagedStoreError, StoreError, UnsupportedError
from machines_server.store.sqlite.file_lock import LOCAL_DISK_ADVICE, has_record_locks

FULL_DISK_BYTES = 2**20
"""A disk with less free space counts as full."""
_MAX_REASON_CHARACTERS = 200
_UNDECODABLE_TEXT = "a text in it is damaged"
_LACKS = {
    sqlite3.SQLITE_PROTOCOL: "lock files",
    sqlite3.SQLITE_IOERR_RDLOCK: "lock files",
    sqlite3.SQLITE_IOERR_LOCK: "lock files",
    sqlite3.SQLITE_IOERR_UNLOCK: "lock files",
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK: "lock files",
    sqlite3.SQLITE_IOERR_SHMLOCK: "lock files",
    sqlite3.SQLITE_IOERR_SHMMAP: "map files into memory",
}
"""What a file system cannot do, by SQLite's result code."""
_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DECODING_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)

log = logging.getLogger(__name__)


@contextmanager
def store_errors(path: Path, *, is_migrated: bool = True) -> Iterator[None]:
    """Turn errors of a database into StoreError, with the name of the file.

    `is_migrated`: all tables should exist, so a missing one means damage.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = error_code(error, extended=True)
        if lack := _lack(path, code):
            raise UnsupportedError(
                f"{path.name}: its file system cannot {lack}; {LOCAL_DISK_ADVICE}"
            ) from error
        kind = DamagedStoreError if _is_damage(error, is_migrated=is_migrated) else StoreError
        full_disk = full_disk_remark(path) if code & 0xFF == sqlite3.SQLITE_IOERR else ""
        raise kind(f"{path.name}: {_reason(error)}{full_disk}") from error
    except UnicodeDecodeError as error:
        raise DamagedStoreError(f"{path.name}: {_UNDECODABLE_TEXT}") from error


@contextmanager
def decoding(path: Path, kind: type[StoreError] = StoreError) -> Iterator[None]:
    """Turn errors of decoding rows into StoreError, since a damaged row may hold anything."""
    try:
        yield
    except _DECODING_ERRORS as error:
        log.debug("%s: its contents cannot be read", path.name, exc_info=True)
        raise kind(f"{path.name}: its contents cannot be read ({type(error).__name__})") from error


def error_code(error: BaseException | None, *, extended: bool = False) -> int:
    """SQLite's result code of an error, the primary one unless `extended`; 0 if it has none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code if extended else code & 0xFF


def is_temporary(error: StoreError) -> bool:
    """Return whether the error may go away by itself, like a full disk or a lock."""
    if isinstance(error, UnsupportedError):
        return True
    is_damaged = isinstance(error, DamagedStoreError)
    return not is_damaged and isinstance(error.__cause__, OSError | sqlite3.OperationalError)


def full_disk_remark(path: Path) -> str:
    """A remark for a message if the disk is full, which SQLite does not always say; otherwise empty."""
    with suppress(OSError):
        if disk_usage(path.parent).free < FULL_DISK_BYTES:
            return "; its disk is full"
    return ""


def _is_damage(error: sqlite3.Error, *, is_migrated: bool) -> bool:
    """Return whether an error means that the file is damaged, not that it is locked or its disk full."""
    if error_code(error, extended=True) == sqlite3.SQLITE_IOERR_SHORT_READ:  # the log was truncated
        return True
    # Our statements are correct, so they fail only if the schema lacks what our migrations created.
    lacks_tables = is_migrated and error_code(error) == sqlite3.SQLITE_ERROR
    return lacks_tables or error_code(error) in _DAMAGE_CODES or _is_undecodable(error)


def _is_undecodable(error: sqlite3.Error) -> bool:
    """Return whether a text is not UTF-8: the only operational error that Python raises without a code."""
    return isinstance(error, sqlite3.OperationalError) and not error_code(error)


def _reason(error: sqlite3.Error) -> str:
    """SQLite's message, without unprintable characters from a damaged file."""
    if _is_undecodable(error):
        return _UNDECODABLE_TEXT
    return "".join(letter if letter.isprintable() else "?" for letter in str(error))[:_MAX_REASON_CHARACTERS]


def _lack(path: Path, code: int) -> str | None:
    """What the file system cannot do, if that is why SQLite failed."""
    if code == sqlite3.SQLITE_BUSY:  # SQLite also reports ENOLCK so
        return None if has_record_locks(path.parent) else "lock files"
    return None if full_disk_remark(path) else _LACKS.get(code)
