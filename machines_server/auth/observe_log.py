"""Logs what would be refused, as JSON lines, for an operator who is about to enforce signatures."""

import os
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from machines_server.core.text import clip, printable
from machines_server.failure_log import logger_of_failures

MAX_LOG_BYTES = 2**24
"""A larger file is renamed to `NAME.1`, in place of the one before it."""
MAX_LINES_PER_S = 100
"""Lines that each process writes in a second; the others are counted in the next."""

log = logger_of_failures(__name__)


class ObservedLine(Struct, frozen=True, omit_defaults=True):
    """One request that would be refused."""

    ts: str
    """When, in RFC 3339."""
    event: Literal["would_reject"]
    method: str
    path: str
    """As the client sent it, without the query."""
    reason: str
    agent_id: str | None
    """The agent that claims to have sent it; null if none does."""
    more_like_it: int = 0
    """How many lines were omitted before this one."""


class ObserveLog:
    """Appends lines; several processes may share the file. If it cannot be written, that is only logged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._second, self._lines, self._omitted = 0, 0, 0

    def add(self, method: str, path: str, reason: str, agent: str | None) -> None:
        """Write a line, or count it if there are too many."""
        now = time.time()
        with self._lock:
            if int(now) != self._second:
                self._second, self._lines = int(now), 0
            self._lines += 1
            if self._lines > MAX_LINES_PER_S:
                self._omitted += 1
                return
            omitted, self._omitted = self._omitted, 0
        line = ObservedLine(
            ts=datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            event="would_reject",
            method=clip(printable(method)),
            path=clip(printable(path)),
            reason=reason,
            agent_id=None if agent is None else clip(printable(agent)),
            more_like_it=omitted,
        )
        try:
            self._append(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error.strerror)

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            os.write(fd, line)
            is_full = os.fstat(fd).st_size > MAX_LOG_BYTES
        finally:
            os.close(fd)
        if is_full:
            with suppress(OSError):  # another process may have renamed it
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
