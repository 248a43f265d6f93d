"""Agents with keys, and requests that they sign or that somebody forges."""

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from request_signing.keys import make_pair, read_private_key
from request_signing.message import PATH_ALONE
from request_signing.signer import Signer


class Agents:
    """A folder of public keys, and the private keys beside it."""

    def __init__(self, folder: Path) -> None:
        self.public, self._private = folder / "keys", folder / "private"
        self.public.mkdir()
        self._private.mkdir()

    def add(self, name: str) -> "Agent":
        """Make a pair; the public key counts at once."""
        private, public = make_pair(name)
        path = self._private / name
        path.touch(0o600)
        path.write_bytes(private)
        (self.public / f"{name}.pub").write_bytes(public)
        return Agent(name, path)

    def remove(self, name: str) -> None:
        """Delete the public key."""
        (self.public / f"{name}.pub").unlink()


class Agent:
    """One agent, which signs."""

    def __init__(self, name: str, private_key: Path) -> None:
        self.name, self.private_key = name, private_key

    def sign(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        version: int = PATH_ALONE,
        ahead_s: float = 0.0,
        name: str | None = None,
    ) -> dict[str, str]:
        """The headers for a request; `ahead_s` is how far its clock is ahead, `name` another name to give."""
        signer = Signer(
            name or self.name, read_private_key(self.private_key), clock=lambda: time.time() + ahead_s
        )
        return signer.headers(method, target, body, version=version)


class Answer(msgspec.Struct, frozen=True):
    """Status and body of an HTTP answer."""

    status: int
    body: bytes

    @property
    def reason(self) -> str | None:
        """The reason of a refusal, or None."""
        if self.status not in (401, 503):
            return None
        return str(msgspec.json.decode(self.body).get("reason"))


def send(
    port: int,
    method: str,
    target: str,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> Answer:
    """Send a request with exactly these bytes in its first line, and read the answer to its end."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    pairs += [("Host", "127.0.0.1"), ("Connection", "close"), ("Content-Length", str(len(body)))]
    head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        received = b""
        while chunk := connection.recv(2**16):
            received += chunk
    head_bytes, _, content = received.partition(b"\r\n\r\n")
    return Answer(int(head_bytes.split(b" ", 2)[1]), content)
