"""Copying a database as it is at one moment, while others read and write it."""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from machines_server.errors import StoreError
from machines_server.store.sqlite.connection import open_reader
from machines_server.store.sqlite.failures import store_errors

_CHUNK_BYTES = 2**24
_FORMAT_AT, _ROLLBACK_JOURNAL = 18, b"\1\1"
"""Where a database file records the kind of its journal: https://www.sqlite.org/fileformat.html, 1.3.3."""


def backup(path: Path, target: Path) -> None:
    """Copy a database to a new file, which appears only when it is complete; raises StoreError.

    Until then the file has no name, so that a process that is killed leaves nothing behind; it has one only
    for the moment in which SQLite opens it. SQLite cannot write to a file that never had a name, and
    one that lost its name cannot get another; hence two copies.
    """
    try:
        with _nameless(target) as (fd, opened):
            with closing(open_reader(path)) as source, store_errors(target), closing(opened) as copy:
                copy.execute("PRAGMA journal_mode = OFF")
                copy.execute("PRAGMA synchronous = OFF")
                source.backup(copy)
            os.pwrite(fd, _ROLLBACK_JOURNAL, _FORMAT_AT)
            _name(fd, target)
    except FileExistsError:
        raise StoreError(f"{target} already exists; name a new file") from None
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error


@contextmanager
def _nameless(target: Path) -> Iterator[tuple[int, sqlite3.Connection]]:
    """An empty file beside `target`, unlinked after SQLite opened it."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            with store_errors(target):
                connection = sqlite3.connect(part, isolation_level=None)
        finally:
            part.unlink()
        yield fd, connection
    finally:
        os.close(fd)


def _name(source: int, target: Path) -> None:
    """Make the content of a file appear as `target` in one step; raises FileExistsError."""
    try:
        fd = os.open(target.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # the file system has no files without names
        _copy_by_name(source, target)
        return
    try:
        _copy(source, fd)
        # Given a descriptor, Python calls linkat(), which can follow the link; see open(2).
        os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd, follow_symlinks=True)
    finally:
        os.close(fd)


def _copy_by_name(source: int, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _copy(source, fd)
        part.rename(target)
    finally:
        os.close(fd)
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _copy(source: int, target: int) -> None:
    at = 0
    while copied := os.sendfile(target, source, at, _CHUNK_BYTES):
        at += copied
    os.fsync(target)
