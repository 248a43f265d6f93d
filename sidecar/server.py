"""The HTTP server: accepts connections and limits their number; one thread, one asyncio event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

from sidecar.app import App
from sidecar.connection import Connection, Limits
from sidecar.connection_limit import ConnectionLimit, Slot
from tls_files import TlsFiles

log = logging.getLogger(__name__)

MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS = 512, 128
# Kept free for the sampler, which reads files, and for the process that reads the GPUs.
RESERVED_DESCRIPTORS = 64
BACKLOG = 1024
SOCKET_BUFFER_BYTES = 32768
"""The size of the system's buffers of a connection, in each direction; responses have a few kB."""
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
ACCEPT_RETRY_S = 0.5
WARN_INTERVAL_S = 60


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`, a name or an address; raises OSError if it cannot."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    dual = family is socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    listening = socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # connections inherit them
        listening.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER_BYTES)
    return listening


class Server:
    """Serves one listening socket until `stop`, with TLS if it is given a certificate."""

    def __init__(
        self,
        listening: socket.socket,
        app: App,
        limits: Limits | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        listening.settimeout(0)
        self._listening, self._app, self._limits, self._tls = listening, app, limits or Limits(), tls
        self._connections = ConnectionLimit(_max_connections(), MAX_CONNECTIONS_PER_ADDRESS)
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned_at = float("-inf")

    def run(self) -> None:
        """Serve until `stop` is called, which may have happened already."""
        self._start(self._accept())
        self._loop.run_until_complete(self._stopped.wait())

    def stop(self) -> None:
        """End `run`; may be called from any thread or signal handler, and repeatedly."""
        with suppress(RuntimeError):  # already closed
            self._loop.call_soon_threadsafe(self._stopped.set)

    def close(self) -> None:
        """Close the listening socket and all connections."""
        self._loop.run_until_complete(self._end_all())
        self._loop.close()
        self._listening.close()

    async def _accept(self) -> None:
        while True:
            try:
                client, address = await self._loop.sock_accept(self._listening)
            except OSError as failed:
                await self._recover(failed)
            else:
                self._start(self._admit(client, address[0]))
                await asyncio.sleep(0)  # `sock_accept` does not yield while clients are waiting

    async def _recover(self, failed: OSError) -> None:
        """Close a connection if the system is out of resources for another; wait if that does not help."""
        is_exhausted = failed.errno in OUT_OF_RESOURCES
        if is_exhausted and time.monotonic() - self._warned_at > WARN_INTERVAL_S:
            self._warned_at = time.monotonic()
            log.warning("no more connections can be accepted (%s): the oldest are closed", failed.strerror)
        has_room = is_exhausted and self._connections.close_oldest()
        await asyncio.sleep(0 if has_room else ACCEPT_RETRY_S)

    async def _admit(self, client: socket.socket, address: str) -> None:
        """Start a new connection; returns when its TLS handshake, if there is one, is over."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        slot = Slot(address, task.cancel)
        self._connections.add(slot)
        if self._tls is not None:
            self._tls.refresh()
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: Connection(self._app, self._limits, self._connections, slot),
                client,
                ssl=self._tls.context if self._tls else None,
                ssl_handshake_timeout=self._limits.head_s if self._tls else None,
                ssl_shutdown_timeout=self._limits.linger_s if self._tls else None,
            )
        except BaseException as error:
            self._connections.remove(slot)
            if not isinstance(error, OSError):  # otherwise the client left, or does not speak TLS
                raise
        else:
            slot.end = transport.abort

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_all(self) -> None:
        await asyncio.sleep(0)  # let each task start, or it could not close its socket
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        while self._connections.close_oldest():
            pass
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # connections are closed in this iteration


def _max_connections() -> int:
    """How many connections this process may hold without running out of file descriptors."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS
        if limit == resource.RLIM_INFINITY
        else max(8, min(MAX_CONNECTIONS, limit - RESERVED_DESCRIPTORS))
    )
