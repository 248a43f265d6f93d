"""Requests as bytes on a socket, for what no client library would send."""

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

LIMIT_S = 5.0


@dataclass(frozen=True)
class RawAnswer:
    """The status of an answer, its headers with names in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes


def connect(url: str, limit_s: float = LIMIT_S) -> socket.socket:
    """A connection to that server."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=limit_s)


def send(url: str, request: bytes, limit_s: float = LIMIT_S, *, is_head: bool = False) -> RawAnswer:
    """Send those bytes on a new connection, and read what comes until it ends; raises OSError."""
    with connect(url, limit_s) as connection:
        connection.sendall(request)
        return read(connection, is_head=is_head)


def read(connection: socket.socket, *, is_head: bool = False) -> RawAnswer:
    """One answer: by its length if it has one, else until the connection ends; that to HEAD has no body."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError(f"the connection ended after {received!r}")
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers["content-length"]) if "content-length" in headers else None
    if is_head:
        length = 0
    while length is None or len(body) < length:
        chunk = connection.recv(65536)
        if not chunk:
            break
        body += chunk
    return RawAnswer(int(first.split(" ")[1]), headers, body)
