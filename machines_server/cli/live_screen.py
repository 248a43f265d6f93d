"""A screen that is redrawn in place while a thread fetches its content."""

import os
import select
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from types import FrameType, TracebackType
from typing import Any, Generic, Self, TypeVar

from machines_server.cli.output import has_colours, rendered, write_to_terminal
from machines_server.cli.terminal.spans import Line
from machines_server.errors import MachinesError

T = TypeVar("T")

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J", "\x1b[?25h\x1b[?1049l"
"""Another screen without a cursor, and back."""
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Key(Enum):
    """What the user wants."""

    QUIT = auto()
    UP = auto()
    DOWN = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()


_KEYS: Mapping[bytes, Key] = {
    b"q": Key.QUIT,
    b"Q": Key.QUIT,
    b"\x03": Key.QUIT,
    b"\x04": Key.QUIT,
    b"": Key.QUIT,
    b"k": Key.UP,
    b"\x1b[A": Key.UP,
    b"\x1bOA": Key.UP,
    b"j": Key.DOWN,
    b"\x1b[B": Key.DOWN,
    b"\x1bOB": Key.DOWN,
    b"\x1b[5~": Key.PAGE_UP,
    b"\x1b[6~": Key.PAGE_DOWN,
    b" ": Key.PAGE_DOWN,
}
"""Keys by what a terminal sends; nothing means that it is gone."""


class LiveScreen(Generic[T]):
    """The terminal as a context manager, which leaves it as it was; only for the main thread.

    `answer` is the latest result of `fetch`, which a thread calls every `interval_s`; `error` is why the last
    call failed, else None.
    """

    def __init__(self, fetch: Callable[[], T], interval_s: float) -> None:
        self._fetch, self._interval_s = fetch, interval_s
        self.answer: T | None = None
        self.error: str | None = None
        self._ended = threading.Event()
        self._reader, self._writer = socket.socketpair()

    def __enter__(self) -> Self:
        for one in self._reader, self._writer:
            one.settimeout(0)
        self._before = termios.tcgetattr(sys.stdin)
        self._handlers: dict[int, Any] = {
            one: signal.signal(one, self._end)
            for one in _ENDING_SIGNALS
            if signal.getsignal(one) is not signal.SIG_IGN
        }
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: None)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._take()
        threading.Thread(target=self._keep_asking, name="asking", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ended.set()
        try:
            self._leave()
        finally:
            signal.set_wakeup_fd(self._wakeup)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._reader.close()
            self._writer.close()

    def size(self) -> tuple[int, int]:
        """How many columns and lines the terminal has now."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            columns, lines = 0, 0
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[Line]) -> None:
        """Show lines that fit the terminal, replacing the previous ones."""
        coloured = has_colours()
        text = "\n".join(f"{rendered(line, coloured=coloured)}{_END_OF_LINE}" for line in lines)
        write_to_terminal(f"{_HOME}{text}{_END_OF_SCREEN}")

    def wait(self) -> Key | None:
        """Wait until there is something to draw; returns the key that was typed, if that is why."""
        ready, _, _ = select.select([sys.stdin, self._reader], [], [])
        if sys.stdin in ready:
            typed = os.read(sys.stdin.fileno(), 64)
            return _KEYS.get(typed)
        if self._reader in ready:
            self._reader.recv(4096)
        return None

    def _take(self) -> None:
        tty.setcbreak(sys.stdin)
        write_to_terminal(_ENTER)

    def _leave(self) -> None:
        try:
            write_to_terminal(_LEAVE)
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Give the terminal back while Ctrl-Z stops this process, and take it again when it resumes."""
        self._leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)
        self._take()

    def _keep_asking(self) -> None:
        while not self._ended.is_set():
            try:
                self.answer, self.error = self._fetch(), None
            except MachinesError as error:
                self.error = str(error)
            self._wake()
            self._ended.wait(self._interval_s)

    def _wake(self) -> None:
        try:
            self._writer.send(b"\0")
        except OSError:  # it is full, so that the reader wakes up anyway, or closed
            return

    @staticmethod
    def _end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)
