"""Programs of others that tests run beside the server."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes import wait_until


class Program:
    """A program that runs as a context manager; subclasses say which, and when it is ready."""

    def __init__(self, log: Path) -> None:
        """`log` is the file that it writes to."""
        self._log = log
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        words = self._start()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(words, stderr=log, stdout=log)
        try:
            wait_until(self._is_running_and_ready)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def _is_running_and_ready(self) -> bool:
        assert self._process.poll() is None, self.log()
        return self._is_ready()

    def _start(self) -> Sequence[str]:
        """Prepare what it needs; returns the command."""
        raise NotImplementedError

    def _is_ready(self) -> bool:
        """Return whether it does its work yet."""
        raise NotImplementedError
