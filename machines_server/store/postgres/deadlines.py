"""Ends transactions that take too long, even if the network or the server does not answer."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from machines_server.errors import UnreachableStoreError

_LATENESS_S = 0.1
_CANCEL_S = 2.0
"""How long the server may take to note that nobody waits for its answer any more."""


class Deadlines:
    """Watches the transactions of one process.

    What is late is cancelled, since a COMMIT that waits for a standby would keep its connection to the server
    and its locks even without its caller; then its connection is cut, in case the server does not answer. A
    COMMIT that was cancelled ends as if it had succeeded, but here it raises like all that is late.
    """

    def __init__(self) -> None:
        self._watched: dict[object, tuple[float, psycopg.Connection[Any], bool]] = {}
        self._ending: dict[object, threading.Thread] = {}
        """The threads that end late transactions."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def within(
        self, connection: psycopg.Connection[Any], seconds: float, *, cancels: bool = True
    ) -> Iterator[None]:
        """End the transaction if the block takes longer, which then raises UnreachableStoreError.

        Without `cancels` the connection is only cut, which is enough for what changes nothing.
        """
        key = object()
        with self._changed:
            self._watched[key] = time.monotonic() + seconds, connection, cancels
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="database deadlines", daemon=True)
                self._thread.start()
            elif len(self._watched) == 1:
                self._changed.notify()
        failure = None
        try:
            yield
        except psycopg.Error as error:
            failure = error
        finally:
            with self._changed:
                was_in_time = self._watched.pop(key, None) is not None
                ending = self._ending.pop(key, None)
            if ending:  # it uses the connection
                ending.join()
        if not was_in_time:
            connection.close()
            raise UnreachableStoreError(
                f"PostgreSQL did not answer within {seconds:g} s; if it waits for a standby,"
                " `machines-server doctor` says so"
            ) from failure
        if failure:
            raise failure

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._watched:
                    self._changed.wait()
                now = time.monotonic()
                late = [key for key, (until, *_) in self._watched.items() if until < now]
                for key in late:
                    _, connection, cancels = self._watched.pop(key)
                    self._end(key, connection, _cancel_and_cut if cancels else _cut)
            time.sleep(_LATENESS_S)

    def _end(
        self, key: object, connection: psycopg.Connection[Any], how: Callable[[psycopg.Connection[Any]], None]
    ) -> None:
        thread = threading.Thread(target=how, args=[connection], daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there are too many threads
            _cut(connection)
        else:
            self._ending[key] = thread


def _cancel_and_cut(connection: psycopg.Connection[Any]) -> None:
    with suppress(OSError, psycopg.Error):
        connection.cancel_safe(timeout=_CANCEL_S)
    _cut(connection)


def _cut(connection: psycopg.Connection[Any]) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
