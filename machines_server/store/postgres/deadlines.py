"""Ends connections whose transaction takes too long, even if the network or the server does not answer."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from machines_server.errors import UnreachableStoreError

_LATENESS_S = 0.1


class Deadlines:
    """Watches the transactions of one process.

    Cancelling the statement would not do: a COMMIT that waits for a standby would end as if it had succeeded.
    """

    def __init__(self) -> None:
        self._watched: dict[object, tuple[float, psycopg.Connection[Any]]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def within(self, connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
        """Cut the connection if the block takes longer, which then raises UnreachableStoreError."""
        key = object()
        with self._changed:
            self._watched[key] = time.monotonic() + seconds, connection
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="database deadlines", daemon=True)
                self._thread.start()
            elif len(self._watched) == 1:
                self._changed.notify()
        try:
            yield
        except psycopg.Error as error:
            with self._changed:
                was_cut = key not in self._watched
            if was_cut:
                raise UnreachableStoreError(
                    f"PostgreSQL did not answer within {seconds:g} s; if it waits for a standby,"
                    " `machines-server doctor` says so"
                ) from error
            raise
        finally:
            with self._changed:
                self._watched.pop(key, None)

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._watched:
                    self._changed.wait()
                now = time.monotonic()
                late = [key for key, (until, _) in self._watched.items() if until < now]
                for key in late:
                    _cut(self._watched.pop(key)[1])
            time.sleep(_LATENESS_S)


def _cut(connection: psycopg.Connection[Any]) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
