"""Requests of the answering workers to the polling one: to look for a model, or to poll a machine soon.

The file exists only while there are requests, so checking for them costs one call of stat().
"""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from machines_server.core.model_names import canonical
from machines_server.store.sqlite.own_files import make_file
from machines_server.store.values import Requested

MAX_FILE_BYTES = 2**16
_MODEL, _MACHINE = "model", "machine"

log = logging.getLogger(__name__)


class PollerRequests:
    """A file with a kind and a word on each line; implements the protocol of that name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def look_for(self, model: str) -> None:
        """Request a search for a model on disks, unless no model can have that name."""
        key = canonical(model)
        if key is not None:
            self._add(_MODEL, [key])

    def poll_soon(self, machines: Iterable[str]) -> None:
        """Request that machines be polled before the next cycle."""
        self._add(_MACHINE, machines)

    def _add(self, kind: str, words: Iterable[str]) -> None:
        """Add requests that the file lacks; how often they are served is up to the poller."""
        lines = dict.fromkeys(f"{kind} {word}\n".encode() for word in words)
        if not lines:
            return
        try:
            asked = b"\n" + self._content()
            new = [line for line in lines if b"\n" + line not in asked]
            if not new or len(asked) > MAX_FILE_BYTES:
                return
            make_file(self._path)
            with self._path.open("ab", buffering=0) as file:
                file.write(b"".join(new))
        except OSError as error:  # the request is answered anyway
            log.debug("%s: %s", self._path.name, error)

    def _content(self) -> bytes:
        try:
            with self._path.open("rb", buffering=0) as file:
                return file.read(2 * MAX_FILE_BYTES)
        except FileNotFoundError:
            return b""

    def is_empty(self) -> bool:
        """Whether there are no requests."""
        return not os.path.exists(self._path)  # noqa: PTH110  called several times a second, and cheaper

    def take(self) -> Requested:
        """Remove and return the requests since the last call."""
        taken = self._path.with_name(f"{self._path.name}.taken")
        content = b""
        with suppress(OSError):
            self._path.replace(taken)
            content = taken.read_bytes()[: 2 * MAX_FILE_BYTES]
            taken.unlink()
        lines = [line.partition(" ") for line in content.decode("utf-8", "replace").splitlines()]
        return Requested(
            models=frozenset(word for kind, _, word in lines if kind == _MODEL),
            machines=tuple(dict.fromkeys(word for kind, _, word in lines if kind == _MACHINE)),
        )
