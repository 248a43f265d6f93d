"""Hears what other processes announce through PostgreSQL, in one thread of each process.

Announcements made while the connection is broken are lost. Subscribers that need them must look again after
each new connection, and now and then while there is none.
"""

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import psycopg
from psycopg import pq, sql

from machines_server.errors import StoreError
from machines_server.store.postgres.database import Connection, Database
from machines_server.store.postgres.deadlines import Deadlines

HEARTBEAT_S = 1.0
"""After this much silence, the server is asked whether it is there."""
SILENCE_S = 3.0
"""How long it may take to answer."""
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 1.0
_RETRY_POOLED_S = 60.0
"""The retry interval behind a pooler, which forwards no announcements but may be replaced."""

log = logging.getLogger(__name__)


class _Subscriber(NamedTuple):
    channel: str
    on_notify: Callable[[str], None]
    on_reconnect: Callable[[], None]


class Listener:
    """Calls the subscribers of channels, in a thread that the first of them starts."""

    def __init__(self, database: Database) -> None:
        self._database, self._deadlines = database, Deadlines()
        self._lock = threading.Lock()
        self._subscribers: tuple[_Subscriber, ...] = ()
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._is_closed = threading.Event()
        self._heard_at = float("-inf")

    def subscribe(
        self, channel: str, on_notify: Callable[[str], None], on_reconnect: Callable[[], None]
    ) -> None:
        """Call `on_notify` with the payload of each announcement on a channel; both must be quick.

        `on_reconnect` is called when listening has begun, the first time and after each failure, since
        announcements before may be lost. Neither is called in the caller's thread.
        """
        with self._lock:
            self._subscribers = (*self._subscribers, _Subscriber(channel, on_notify, on_reconnect))
            if self._thread is None:
                self._is_closed = threading.Event()
                self._wake, woken = socket.socketpair()
                arguments = self._is_closed, woken
                self._thread = threading.Thread(
                    target=self._run, args=arguments, name="database listener", daemon=True
                )
                self._thread.start()
            elif self._wake is not None:
                self._wake.send(b"s")

    def is_listening(self) -> bool:
        """Whether announcements arrive at the moment, as far as is known."""
        return time.monotonic() - self._heard_at < HEARTBEAT_S + SILENCE_S

    def close(self) -> None:
        """Stop listening and forget all subscribers; the next subscription restarts it."""
        with self._lock:
            thread, self._thread, self._subscribers = self._thread, None, ()
            wake, self._wake = self._wake, None
            self._is_closed.set()
        if wake is not None:
            wake.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(SILENCE_S)

    def _run(self, is_closed: threading.Event, woken: socket.socket) -> None:
        wait_s, was_told = _FIRST_RETRY_S, False
        with woken:
            while not is_closed.is_set():
                began = time.monotonic()
                try:
                    with contextlib.closing(self._database.connect()) as connection:
                        if connection.is_pooled:
                            wait_s = _RETRY_POOLED_S
                        else:
                            self._listen(connection, is_closed, woken)
                except (StoreError, psycopg.Error, OSError) as error:
                    if not was_told:
                        reason = str(error).partition("\n")[0]
                        log.warning("cannot receive announcements from other servers: %s", reason)
                    was_told = True
                self._heard_at = float("-inf")
                if time.monotonic() - began > SILENCE_S:
                    wait_s, was_told = _FIRST_RETRY_S, False
                is_closed.wait(wait_s)
                wait_s = min(2 * wait_s, _LAST_RETRY_S)

    def _listen(self, connection: Connection, is_closed: threading.Event, woken: socket.socket) -> None:
        """Listen until the connection breaks or there are no subscribers."""
        connection.add_notify_handler(lambda notify: self._tell(notify.channel, notify.payload))
        known: tuple[_Subscriber, ...] = ()
        while not is_closed.is_set():
            with self._lock:
                current = self._subscribers
            new = current[len(known) :]
            with self._deadlines.within(connection, SILENCE_S):
                for channel in {one.channel for one in new} - {one.channel for one in known}:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                if not new:
                    connection.execute("SELECT 1")
            known, self._heard_at = current, time.monotonic()
            for one in new:
                _call(one.on_reconnect)
            self._hear(connection, woken)

    def _hear(self, connection: Connection, woken: socket.socket) -> None:
        """Listen until there has been silence for a while, or somebody subscribes."""
        poll = select.poll()  # select() accepts no file descriptor above 1,023, and a poller has more
        for line in connection.fileno(), woken.fileno():
            poll.register(line, select.POLLIN)
        while True:
            readable = [line for line, _ in poll.poll(HEARTBEAT_S * 1000)]
            if woken.fileno() in readable:
                woken.recv(64)
                return
            if not readable:
                return
            connection.pgconn.consume_input()
            while notify := connection.pgconn.notifies():
                self._tell(notify.relname.decode(), notify.extra.decode("utf-8", "replace"))
            if connection.pgconn.status != pq.ConnStatus.OK:
                return
            self._heard_at = time.monotonic()

    def _tell(self, channel: str, payload: str) -> None:
        with self._lock:
            subscribers = self._subscribers
        for one in subscribers:
            if one.channel == channel:
                _call(partial(one.on_notify, payload))


def _call(function: Callable[[], None]) -> None:
    try:
        function()
    except Exception:
        log.exception("handling an announcement or a reconnection failed")
