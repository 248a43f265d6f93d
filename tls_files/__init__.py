"""The certificate and key of a server, reloaded when they are renewed; for server and sidecar."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path

_Signature = tuple[tuple[int, int, int], ...]


class TlsFilesError(Exception):
    """The files cannot be used; the text is a sentence."""


class TlsFiles:
    """A TLS context for a server, whose `refresh` loads renewed files for new connections."""

    def __init__(self, certificate: Path, key: Path, on_fault: Callable[[str], None]) -> None:
        """Raise TlsFilesError if the files cannot be used.

        `certificate` has the whole chain, the server's own first. `on_fault` is called with a sentence when
        renewed files cannot be used; the ones before stay in use.
        """
        self._certificate, self._key, self._on_fault = certificate, key, on_fault
        self._tried = self._signature()
        self.context = self._load()

    def refresh(self) -> None:
        """Load the files if they have changed; cheap enough for every second or connection."""
        found = self._signature()
        if found == self._tried:
            return
        self._tried = found
        try:
            self._load()  # only usable files get into the context in use
            self._load_into(self.context)
        except TlsFilesError as error:
            self._on_fault(f"{error}; the previous certificate stays in use")

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load_into(context)
        return context

    def _load_into(self, context: ssl.SSLContext) -> None:
        where = f"{self._certificate} and {self._key}"
        try:
            # Without a password OpenSSL would ask at the terminal.
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            reason = (error.reason or "not PEM").lower().replace("_", " ")
            raise TlsFilesError(
                f"{where} are not a certificate and its key without a passphrase: {reason}"
            ) from None
        except (OSError, ValueError) as error:
            raise TlsFilesError(
                f"{where} cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from None

    def _signature(self) -> _Signature | None:
        try:
            found = [os.stat(path) for path in (self._certificate, self._key)]  # noqa: PTH116  called often
        except OSError:
            return None
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)


def _no_password() -> str:
    raise ValueError("the key is protected by a passphrase")
