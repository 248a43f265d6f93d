"""Reads credentials and authorities from their folders, again whenever a file has changed."""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from machines_server.core.access import Access
from machines_server.core.machine import Endpoint, Machine, Problem
from machines_server.core.reasons import CREDENTIAL_UNUSABLE, Reason
from machines_server.credentials.content import (
    MAX_AUTHORITIES_BYTES,
    MAX_CREDENTIAL_BYTES,
    UnusableError,
    authorization,
    check_authorities,
)
from machines_server.errors import NoAccessError
from machines_server.folder_file import OutsideFolderError, open_in_folder

RECHECK_S = 0.25
"""The minimum interval between checks of a file, however many machines name it."""
_SETTLE_NS = 2_000_000_000
"""A file that was read sooner than this after a change may change again without a new timestamp."""

Content = TypeVar("Content", bound=str | bytes)


class Kind(NamedTuple):
    """A kind of file: who may do what with it, and the words for it."""

    title: str
    key: str
    setting: str
    most_bytes: int
    forbidden_mode: int
    rule: str


CREDENTIAL = Kind(
    "credential",
    "network.credential",
    "MACHINES_CREDENTIALS_DIR",
    MAX_CREDENTIAL_BYTES,
    0o077,
    "expected mode 0600 or stricter",
)
AUTHORITIES = Kind(
    "CA certificate file",
    "network.ca",
    "MACHINES_CA_DIR",
    MAX_AUTHORITIES_BYTES,
    0o022,
    "expected mode 0644 or stricter",
)


@dataclass(slots=True)
class _Known(Generic[Content]):
    """What is known about a file: its stat, and its content or why it cannot be used."""

    checked_at: float = float("-inf")
    signature: tuple[int, ...] | None = None
    content: Content | None = field(default=None, repr=False)
    fault: str | None = None


class _Folder(Generic[Content]):
    """The files of one kind; thread-safe."""

    def __init__(self, kind: Kind, folder: Path | None, read: Callable[[bytes], Content]) -> None:
        self.kind, self.folder, self._read_content = kind, folder, read
        self._known: dict[str, _Known[Content]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Content:
        """The content of a file; raises NoAccessError."""
        with self._lock:
            known = self._known.setdefault(name, _Known())
            if time.monotonic() - known.checked_at >= RECHECK_S:
                self._check(name, known)
                known.checked_at = time.monotonic()
            if known.content is None:
                raise self._error(name, known.fault or "")
            return known.content

    def _check(self, name: str, known: _Known[Content]) -> None:
        """Read the file if it has changed."""
        if self.folder is None:
            known.fault = f"{self.kind.setting} is not set"
            return
        now_ns = time.time_ns()
        try:
            signature = _signature(os.stat(self.folder / name))  # noqa: PTH116  twice as fast as Path.stat
            if signature == known.signature:
                return
            known.signature = known.content = known.fault = None
            content, signature = read_private(self.folder, name, self.kind)
            known.content = self._read_content(content)
        except (UnusableError, OSError) as error:
            known.signature = known.content = None
            known.fault = str(error) if isinstance(error, UnusableError) else described(error)
        else:
            if now_ns - max(signature[3:]) > _SETTLE_NS:
                known.signature = signature

    def _error(self, name: str, fault: str) -> NoAccessError:
        kind = self.kind
        where = f"{self.folder / name}" if self.folder else f"{kind.setting} names the folder of {name}"
        hint = f"{where}: see {kind.key} in docs/proxies.md" if self.folder else where
        return NoAccessError(
            Reason(f"skipped, since the {kind.title} {name} cannot be used: {fault}", CREDENTIAL_UNUSABLE),
            hint,
            kind.key,
        )


class AccessFiles:
    """Finds what requests to endpoints need; thread-safe. Files are checked by their stat."""

    def __init__(self, credentials: Path | None = None, authorities: Path | None = None) -> None:
        self._credentials = _Folder(CREDENTIAL, credentials, authorization)
        self._authorities = _Folder(AUTHORITIES, authorities, check_authorities)

    def access(self, endpoint: Endpoint) -> Access:
        """What requests to an endpoint need; raises NoAccessError."""
        authorities = None if endpoint.ca is None else self._authorities.get(endpoint.ca)
        secret = None if endpoint.credential is None else self._credentials.get(endpoint.credential)
        return Access(secret, authorities)

    def problems(self, machines: Iterable[Machine]) -> Iterator[Problem]:
        """An error for each unusable file that a machine names."""
        for machine in machines:
            if not machine.needs_access:
                continue
            found: dict[str, str] = {}
            for endpoint in machine.endpoints.values():
                if endpoint.needs_access:
                    try:
                        self.access(endpoint)
                    except NoAccessError as error:
                        found.setdefault(error.key, error.reason.text)
            for key, message in found.items():
                yield Problem(machine.file, message, key=key)


def read_private(folder: Path, name: str, kind: Kind) -> tuple[bytes, tuple[int, ...]]:
    """The bytes of a file of the folder that nobody else could have written or read, and its signature.

    Raises OSError or UnusableError.
    """
    try:
        descriptor = open_in_folder(folder, name)
    except OutsideFolderError:
        raise UnusableError("it is a link that leaves the folder") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnusableError("it is not a regular file")
        if found.st_uid not in (0, os.geteuid()):
            raise UnusableError("it belongs to another user; expected one of this server's user, or of root")
        if found.st_mode & kind.forbidden_mode:
            mode = stat.S_IMODE(found.st_mode)
            raise UnusableError(f"its mode is {mode:04o}, which gives others access; {kind.rule}")
        content = b""
        while len(content) <= kind.most_bytes and (
            part := os.read(descriptor, kind.most_bytes + 1 - len(content))
        ):
            content += part
        return content, _signature(found)
    finally:
        os.close(descriptor)


def _signature(found: os.stat_result) -> tuple[int, ...]:
    """What differs after a change; the times come last."""
    return (
        found.st_ino,
        found.st_size,
        found.st_mode << 32 | found.st_uid,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def described(error: OSError) -> str:
    """Why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"it cannot be read ({error.strerror or type(error).__name__})"
