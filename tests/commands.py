"""Many commands of `machines-server` in one environment, including in terminals."""

import os
import pty
import select
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Self

from tests.running import clean_environment
from tests.terminal import WITHIN_S, Ended, set_size
from tests.warm import Forked, Warm, is_read_by_python, warm


class Commands:
    """Runs commands in one environment, as a context manager."""

    def __init__(self, **environment: str) -> None:
        without_size = {k: v for k, v in clean_environment().items() if k not in ("COLUMNS", "LINES")}
        self._environment = without_size | environment
        self._own = Warm(**environment) if is_read_by_python(environment) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._own.close()

    def run(self, *words: str | bytes) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, with files for its output."""
        with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
            status = self._start(words, [os.devnull, output.name, errors.name]).wait(WITHIN_S)
            return subprocess.CompletedProcess(words, status, output.read(), errors.read())

    def run_in_terminal(self, *words: str, columns: int) -> Ended:
        """Run a command to its end, in a terminal so wide."""
        ours, theirs = pty.openpty()
        set_size(ours, columns, 24)
        started = self._start(words, [os.ttyname(theirs)] * 3)
        text = b""
        while started.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.01)[0]:
                text += os.read(ours, 65536)
        os.close(ours)
        os.close(theirs)
        return Ended(started.wait(), text.decode("utf-8", "replace").replace("\r\n", "\n"))

    def _start(self, words: Sequence[str | bytes], streams: list[str]) -> Forked:
        return (self._own or warm()).start(words, self._environment, streams)
