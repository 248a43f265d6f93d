"""A request as bytes on a socket, so that nothing else is sent, and its answer."""

import gzip
import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

LIMIT_S = 20.0
Headers = Mapping[str, str | None]
_SHOWN_BODY = 300


@dataclass(frozen=True)
class Ask:
    """One request. `raw` is sent as it stands instead of all else; `source` is the address it comes from.

    `lease` is the name by which the lease that it makes is shown.
    Host and Connection are added unless `headers` has them; a header of None is not sent.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str | None], ...] = ()
    body: bytes = b""
    source: str = "127.0.0.1"
    raw: bytes = b""
    lease: str = ""

    @property
    def title(self) -> str:
        """The request in one line, by which it is found in a recording; no number in it looks like a port."""
        if self.raw:
            return f"raw {self.raw.decode('latin-1')!r}" if len(self.raw) < _SHOWN_BODY else self.path
        text = self.body.decode("utf-8", "backslashreplace")
        if len(text) > _SHOWN_BODY:
            text = f"{text[:40]}... ({len(self.body):,} bytes)"
        path = (
            self.path if len(self.path) < _SHOWN_BODY else f"{self.path[:60]}... ({len(self.path):,} bytes)"
        )
        words = [self.method, path, *([text] if text else [])]
        words += [f"[{name}: {value}]" for name, value in self.headers]
        words += [f"[from {self.source}]"] if self.source != "127.0.0.1" else []
        return " ".join(words)

    @property
    def may_repeat(self) -> bool:
        """Whether it changes nothing."""
        return self.method in ("GET", "HEAD", "OPTIONS") or bool(self.raw)

    def send(self, url: str) -> "Answer":
        """Send it to that server on a connection of its own; raises OSError or HTTPException."""
        where = urlsplit(url)
        assert where.hostname is not None
        address = where.hostname, where.port or 80
        with socket.create_connection(address, LIMIT_S, (self.source, 0)) as connection:
            connection.sendall(self.raw or self._bytes(f"{where.hostname}:{where.port}"))
            with http.client.HTTPResponse(connection, method=self.method) as response:
                response.begin()
                headers = [(name.lower(), value) for name, value in response.getheaders()]
                return Answer(response.status, headers, response.read())

    def _bytes(self, host: str) -> bytes:
        headers: dict[str, str | None] = {"Host": host, "Connection": "close"}
        if self.body:
            headers["Content-Length"] = str(len(self.body))
        headers |= dict(self.headers)
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header that is there."""
        return dict(self.headers)[name]

    @cached_property
    def text(self) -> str:
        """The body, unpacked."""
        is_packed = dict(self.headers).get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if is_packed and self.body else self.body).decode()

    @cached_property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


def ask(method: str, path: str, headers: Headers | None = None, body: object = None, **more: Any) -> Ask:
    """An Ask; a body that is not bytes is sent as JSON."""
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return Ask(method, path, tuple((headers or {}).items()), sent, **more)


def get(path: str, headers: Headers | None = None) -> Ask:
    """GET a path."""
    return ask("GET", path, headers)
