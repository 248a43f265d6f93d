"""A limit on slow requests, so that they never occupy all threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from machines_server.errors import TooManyError

RETRY_AFTER_S = 1.0
MAX_QUEUE_S = 5.0
"""How long a request waits for others to finish."""


class ConcurrencyLimit:
    """Lets `running` requests run at a time while `waiting` more wait; any further one is refused."""

    def __init__(self, running: int, waiting: int) -> None:
        self.running, self.waiting = running, waiting
        self._slots = threading.BoundedSemaphore(running)
        self._places = threading.BoundedSemaphore(running + waiting)

    @classmethod
    def for_threads(cls, threads: int) -> "ConcurrencyLimit":
        """The limit for a process with that many threads, a quarter of which stay free for other requests.

        With 8 threads it admits the six requests that a browser sends to a server at a time.
        """
        running = 2 if threads >= 8 else 1
        return cls(running, max(threads * 3 // 4 - running, 0))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until the request may run; raises TooManyError."""
        if not self._places.acquire(blocking=False):
            raise self._refusal()
        try:
            if not self._slots.acquire(timeout=MAX_QUEUE_S):
                raise self._refusal()
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._places.release()

    def _refusal(self) -> TooManyError:
        message = f"Too many requests for history at the same time; try again in {RETRY_AFTER_S:g} s."
        return TooManyError("too_many_questions", message, RETRY_AFTER_S)
