"""Psycopg's errors as StoreError, told apart by their classes and codes, never by their messages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout

from machines_server.core.text import printable
from machines_server.errors import LockedError, SchemaGoneError, StoreError, UnreachableStoreError

ITEM_ERRORS = (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError)
"""Errors that one bad value causes; others concern the whole database."""
_SLOW = errors.QueryCanceled, errors.LockNotAvailable, errors.DeadlockDetected
_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    PoolTimeout,
    PoolClosed,
)
_SCHEMA_GONE = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.InvalidSchemaName,
)
_MAX_CONNECTION_REASON_CHARACTERS = 400
_OF_ONE_HOST = re.compile(r"^- host: .*?: connection failed: (.*)$", re.MULTILINE)
"""With several hosts, psycopg's first line has only the last failure; its last lines have one host each."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn errors of the database into StoreError."""
    try:
        yield
    except _SLOW as error:
        raise LockedError("PostgreSQL: a statement took too long, or waited too long for others") from error
    except errors.DiskFull as error:  # it can be read, and may be written again at any time
        raise UnreachableStoreError("PostgreSQL: the disk of its server is full") from error
    except _AWAY as error:
        raise UnreachableStoreError(unreachable(error)) from error
    except _SCHEMA_GONE as error:
        raise SchemaGoneError(
            f"PostgreSQL: the database lacks tables of this version ({error.sqlstate}): restore it, or empty"
            " it and run `machines-server migrate`"
        ) from error
    except errors.InsufficientPrivilege as error:
        raise StoreError(
            f"PostgreSQL: the role lacks rights ({error.sqlstate}): GRANT it SELECT, INSERT, UPDATE, DELETE"
            " and TRUNCATE on all tables of the database, and TEMPORARY on the database"
        ) from error
    except psycopg.Error as error:
        raise StoreError(f"PostgreSQL refused a statement: {_reason(error)}") from error


def unreachable(error: BaseException) -> str:
    """What to say of an error of connecting."""
    return f"PostgreSQL cannot be reached: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The first line of a message, which contains neither the password nor text from a host."""
    text = str(error).strip().removeprefix("connection failed: ")
    lines = (
        ["; ".join(dict.fromkeys(_OF_ONE_HOST.findall(text)))]
        if _OF_ONE_HOST.search(text)
        else text.splitlines()
    )
    reason = printable(lines[0])[:_MAX_CONNECTION_REASON_CHARACTERS] if lines else type(error).__name__
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} ({code})" if code and not isinstance(error, _AWAY) else reason
