"""gunicorn's workers as we run them: one polls, the others answer. gunicorn starts and watches both."""

import asyncio
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from mmap import mmap
from typing import Any

from gunicorn.workers import base
from gunicorn.workers.gasgi import ASGIWorker

from machines_server.web.connections import CHECK_INTERVAL_S, Connection, Connections
from machines_server.web.handshake import TlsServer
from tls_files import TlsFiles

_SPARE_FILES = 256
"""File descriptors reserved for everything but connections."""
_HEARTBEAT_S = 1.0
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_SWITCH_S = 0.0005
"""How long a thread that builds something may keep an answering one waiting; Python's default is 5 ms.
With it the p99 of advice about 1,000 machines, asked back to back, went from 11 to 7 ms."""
_ANSWERING_S = 0.05
"""Time to answer waiting requests, even if the worker ends at once."""


class Heartbeat:
    """When a worker was last seen alive, in memory that it shares with the main process.

    gunicorn's own heartbeat needs a temporary file, so with it no worker starts on a full or read-only disk.
    """

    def __init__(self, _config: object) -> None:
        self._seen_at = memoryview(mmap(-1, 8)).cast("d")
        self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.notify()

    def notify(self) -> None:
        """Record that the worker is alive now."""
        self._seen_at[0] = time.monotonic()

    def last_update(self) -> float:
        """When the worker was last recorded alive, by the monotonic clock."""
        return self._seen_at[0]

    def fileno(self) -> int:
        """A file descriptor, since gunicorn expects one to mark as close-on-exec."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor; called once in each process that has it and is not the worker."""
        os.close(self._descriptor)


base.WorkerTmp = Heartbeat


class Worker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """Polls or answers, as gunicorn_conf decides by `polls` before the fork."""

    polls = False
    reload = 0
    """How many times the server had reloaded when this worker was created."""
    row = 0
    """This worker's row in the shared counts of connections."""
    make_connections: Callable[[int, int], Connections]
    """Takes the row, and the limit of connections for this worker."""
    make_tls: Callable[[], TlsFiles | None]
    """Returns the certificate to serve HTTPS with, or None for HTTP."""
    answer_all: Callable[[], None]
    """Answers all requests that wait."""
    run_poller: Callable[[threading.Event], None]
    """Polls until the event is set."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._ended = asyncio.Event()

    def init_signals(self) -> None:
        """Let a signal end this worker while it starts: an event loop that is not running yet may lose it."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Load the application, unless this worker polls."""
        if not self.polls:
            super().load_wsgi()

    def handle_exit_signal(self) -> None:
        super().handle_exit_signal()
        self._ended.set()

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._ended.set()

    async def _serve(self) -> None:
        super().init_signals()
        # Ctrl-C reaches the main process too, which sends SIGQUIT; a second signal would cut this short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        await (self._poll() if self.polls else self._answer())

    async def _poll(self) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=type(self).run_poller, args=[stop], name="poller", daemon=True)
        thread.start()
        while self._may_continue() and thread.is_alive():
            await self._wait(_HEARTBEAT_S)
        stop.set()
        await asyncio.to_thread(thread.join, self.cfg.graceful_timeout - 1)

    async def _answer(self) -> None:
        sys.setswitchinterval(_SWITCH_S)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        connections = type(self).make_connections(self.row, max(soft - _SPARE_FILES, soft // 2))
        tls = type(self).make_tls()

        def connection() -> Connection:
            return Connection(self, connections)

        for listening in self.sockets:
            server: asyncio.Server | TlsServer
            if tls:
                server = TlsServer(listening.sock, tls.context, connections, connection)
            else:
                server = await self.loop.create_server(
                    connection, sock=listening.sock, backlog=self.cfg.backlog
                )
            self.servers.append(server)
        is_out_of_files = False
        while self._may_continue():
            connections.check(self.loop.time())
            if tls:
                tls.refresh()
            fault = _open_fault()
            if fault and not is_out_of_files:
                self.log.error("process %d cannot accept connections: %s", os.getpid(), fault)
            is_out_of_files = bool(fault)
            await self._wait(CHECK_INTERVAL_S)
        for server in self.servers:
            server.close()
        type(self).answer_all()
        await asyncio.sleep(_ANSWERING_S)
        until = self.loop.time() + self.cfg.graceful_timeout
        while connections and not self._quick_shutdown and self.loop.time() < until:
            connections.end_idle()
            await asyncio.sleep(0.02)

    def _may_continue(self) -> bool:
        self.notify()
        return bool(self.alive) and self.ppid == os.getppid()

    async def _wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until the worker is asked to end."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            return


def end_new_workers_at_once() -> None:
    """Make a signal that reaches a new worker end it; call this once, in the main process.

    Until a worker has handlers of its own it has those of the main process, which only queue a signal, and a
    server that is stopped while it starts would wait for that worker until its time is up.
    """

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def reset() -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        unblock()

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING),
        after_in_parent=unblock,
        after_in_child=reset,
    )


def _open_fault() -> str | None:
    """Why this process cannot open another file, which the event loop does not report; otherwise None."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.strerror
    return None
