"""Holds up threads until a test lets them go on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Latch:
    """Open, until a test closes it for a while."""

    def __init__(self) -> None:
        self.waiting = 0
        """The threads that wait at it."""
        self._open = threading.Event()
        self._open.set()

    def pass_through(self) -> None:
        """Return while it is open."""
        if not self._open.is_set():
            self.waiting += 1
            assert self._open.wait(60)
            self.waiting -= 1

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Close it for the time of the block."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()
