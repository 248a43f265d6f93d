"""A circuit breaker: while a database or its standby is unreachable, most calls fail at once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machines_server.errors import UnreachableStoreError

PAUSE_S = 0.5
"""How long after a failure every call fails without trying."""
TELL_FAILURE_S = 60.0
"""How long a failure is reported, and keeps others out, if no attempt has failed since."""


class CircuitBreaker:
    """After a failure, lets one thread at a time try until one succeeds; the others fail at once.

    Without it, each caller would wait in vain, and hold a connection meanwhile.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._trier: int | None = None
        """The thread that may try."""
        self._fault: str | None = None
        self._try_at = 0.0

    def fault(self) -> str | None:
        """Why the last attempt failed, if that was within the last minute."""
        is_recent = time.monotonic() - self._try_at < TELL_FAILURE_S
        return self._fault if is_recent else None

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Run a block of several attempts, or raise UnreachableStoreError like the last one."""
        fault = self.fault()
        if fault is None:
            yield
            return
        if time.monotonic() < self._try_at or not self._turn.acquire(blocking=False):
            raise UnreachableStoreError(fault)
        self._trier = threading.get_ident()
        try:
            yield
        finally:
            self._trier = None
            self._turn.release()

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Run the block, or raise UnreachableStoreError like the last attempt; yields whether that failed.

        If it did, call `reset` once success has shown that the failure is over.
        """
        fault = self.fault()
        if fault is None:
            with self._noting():
                yield False
        elif self._trier != threading.get_ident():
            with self.admission(), self._noting():
                yield True
        elif time.monotonic() < self._try_at:  # an attempt of this thread has failed meanwhile
            raise UnreachableStoreError(fault)
        else:
            with self._noting():
                yield True

    def reset(self) -> None:
        """Let everybody in again."""
        self._fault = None

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except UnreachableStoreError as error:
            self._fault, self._try_at = str(error), time.monotonic() + PAUSE_S
            raise
