"""TLS handshakes, which count as connections of their address from the first byte on."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from machines_server.core.hosts import unmapped_address
from machines_server.web.connections import HEADERS_TIMEOUT_S, Connection, Connections

_ACCEPT_RETRY_S = 1.0
"""How long to wait when the system has no descriptor for another connection."""


class TlsServer:
    """Accepts the connections of one listening socket.

    The server of an event loop tells its protocol of a client only after the handshake, so a client that
    never finishes one would not be counted.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        connections: Connections,
        make_connection: Callable[[], Connection],
    ) -> None:
        """Begin to accept, in the running event loop."""
        listening.settimeout(0)
        self._listening, self._context = listening, context
        self._connections, self._make_connection = connections, make_connection
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Stop accepting; connections and handshakes go on."""
        self._accepting.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(self._listening)
            except OSError:
                await asyncio.sleep(_ACCEPT_RETRY_S)
                continue
            handshake = Handshake(unmapped_address(peer[0]), loop.time())
            if self._connections.admit(handshake):
                client.close()  # no error can be sent before the handshake
            else:
                task = loop.create_task(self._agree(client, handshake))
                handshake.task = task
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)
            await asyncio.sleep(0)  # `sock_accept` does not yield while clients are waiting

    async def _agree(self, client: socket.socket, handshake: "Handshake") -> None:
        def connection() -> Connection:
            made = self._make_connection()
            made.handshake = handshake
            return made

        try:
            # That a client leaves or does not speak TLS is nobody's fault here.
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    connection, client, ssl=self._context, ssl_handshake_timeout=HEADERS_TIMEOUT_S
                )
        finally:
            self._connections.remove(handshake)


class Handshake:
    """A connection before TLS is established; any of them may be ended to make room."""

    is_idle = True
    task: asyncio.Task[None]

    def __init__(self, address: str, began_at: float) -> None:
        self.address, self.idle_since = address, began_at

    def check(self, _now: float) -> int:
        """The number of unsent bytes; the event loop ends a handshake that takes too long."""
        return 0

    def abort(self) -> None:
        """End the handshake."""
        self.task.cancel()

    def end(self) -> None:
        """End the handshake."""
        self.task.cancel()
