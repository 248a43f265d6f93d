"""The session secret, in a file of one server."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from machines_server.errors import StoreError

SECRET_BYTES = 32
_Signature = tuple[int, int]


class SecretFile:
    """Implements SessionSecret; rereads the file when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secret: bytes = b""
        self._read: _Signature | None = None

    def current(self) -> bytes:
        """The secret, created if there is none; raises StoreError."""
        found = self._signature()
        if found is None:
            self._write(replaces=False)
            found = self._signature()
        if found != self._read:
            try:
                secret = self._path.read_bytes()
            except OSError as error:
                raise StoreError(f"{self._path.name}: {error.strerror}") from error
            if len(secret) != SECRET_BYTES:
                raise StoreError(f"{self._path.name} is damaged: run `machines-server logout --all`")
            self._secret, self._read = secret, found
        return self._secret

    def get_nowait(self) -> bytes | None:
        """The secret; None if there is no usable one."""
        try:
            return self.current()
        except StoreError:
            return None

    def replace(self) -> None:
        """Create a new secret; raises StoreError."""
        self._write(replaces=True)

    def _signature(self) -> _Signature | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116  called for each request, and cheaper
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _write(self, *, replaces: bool) -> None:
        new = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
            if replaces:
                new.replace(self._path)
            else:
                with suppress(FileExistsError):  # another worker was faster
                    self._path.hardlink_to(new)
                new.unlink()
        except OSError as error:
            raise StoreError(f"{self._path.name} cannot be written: {error.strerror}") from error
