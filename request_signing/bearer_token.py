"""A bearer token in a file, with which Prometheus may read although it cannot sign."""

import hmac
import os
import stat
from collections.abc import Callable
from pathlib import Path

_MAX_TOKEN_BYTES = 4096
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class TokenFile:
    """The file; it is read for each request that has a token, so that changes count at once."""

    def __init__(self, path: Path, on_unusable: Callable[[str], None] = lambda _: None) -> None:
        """`on_unusable` is called with a sentence, without the content, whenever the file cannot be used."""
        self._path, self._on_unusable = path, on_unusable

    def is_sent_in(self, authorization: str) -> bool:
        """Return whether an Authorization header has the token."""
        scheme, _, sent = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        token = self._read()
        return bool(token) and hmac.compare_digest(sent.strip().encode("utf-8", "replace"), token)

    def _read(self) -> bytes:
        """The token, or nothing if the file cannot be used."""
        try:
            descriptor = os.open(self._path, _OPEN_FLAGS)
        except OSError as error:
            self._on_unusable(f"{self._path} cannot be read: {error.strerror}")
            return b""
        content = b""
        try:
            fault = _fault(os.fstat(descriptor))
            if not fault:
                content = os.read(descriptor, _MAX_TOKEN_BYTES + 1)
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        finally:
            os.close(descriptor)
        token = content.strip()
        if not fault and not token:
            fault = "is empty"
        elif not fault and len(content) > _MAX_TOKEN_BYTES:
            fault = f"is longer than {_MAX_TOKEN_BYTES} bytes"
        if fault:
            self._on_unusable(f"{self._path} {fault}")
            return b""
        return token


def _fault(found: os.stat_result) -> str | None:
    """Why a file cannot be trusted; None if nobody else can have read or written it."""
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if os.name != "posix":
        return None
    if found.st_uid not in (0, os.geteuid()):
        return "belongs to another user"
    if found.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}, which gives others access: run chmod 600"
    return None
