"""A pseudo-terminal for programs that behave differently in one."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.running import clean_environment

PROGRAM = str(Path(sys.executable).with_name("machines-server"))
WITHIN_S = 60.0
_STYLES = re.compile(r"\x1b\[[0-9;]*m")


class Ended(NamedTuple):
    """How a program in a terminal ended, and all that it wrote."""

    returncode: int
    text: str

    @property
    def plain(self) -> str:
        """The text without colours."""
        return _STYLES.sub("", self.text)


class Terminal:
    """A program in a terminal of its own, as a context manager."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], *, columns: int = 80, lines: int = 24
    ) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, lines, tell=False)
        self.settings_before = termios.tcgetattr(theirs)
        without_size = {k: v for k, v in clean_environment().items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**without_size, "TERM": "xterm", **environment},
            preexec_fn=_take_terminal,
        )
        self._theirs = theirs
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._theirs)
        os.close(self._ours)

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        """Give the terminal another size, which its program is told."""
        set_size(self._ours, columns, lines)
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._ours, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until what has been written since the last call matches; returns that text."""
        ends = time.monotonic() + WITHIN_S
        while not re.search(pattern, self.text):
            assert time.monotonic() < ends, (pattern, self.text)
            assert self._read() or self.process.poll() is None, (pattern, self.text)
        seen, self.text = self.text, ""
        return seen

    def settings(self) -> list[object]:
        """The settings of the terminal, such as whether it shows what is typed."""
        return termios.tcgetattr(self._theirs)

    def end(self) -> Ended:
        """Read until the program has ended."""
        ends = time.monotonic() + WITHIN_S
        while self.process.poll() is None:
            assert time.monotonic() < ends, self.text
            self._read()
        while self._read(0):
            pass
        return Ended(self.process.returncode, self.text.replace("\r\n", "\n"))

    def _read(self, timeout_s: float = 0.05) -> bool:
        ready, _, _ = select.select([self._ours], [], [], timeout_s)
        if not ready:
            return False
        self.text += os.read(self._ours, 65536).decode("utf-8", "replace")
        return True


def in_terminal(environment: Mapping[str, str], *words: str, columns: int = 80) -> Ended:
    """Run `machines-server` in a terminal to its end."""
    with Terminal([PROGRAM, *words], environment, columns=columns) as terminal:
        return terminal.end()


def set_size(terminal: int, columns: int, lines: int) -> None:
    """Set the size of the terminal with that descriptor."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def _take_terminal() -> None:
    """Lead a session whose terminal is standard input, so that Ctrl-C arrives."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
