"""A circuit breaker: while a database or its standby is unreachable, most calls fail at once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machines_server.errors import UnreachableStoreError

PAUSE_S = 0.5
"""How long after a failure every call fails without trying."""
TELL_FAILURE_S = 60.0
"""How long a failure is reported if nobody has tried since."""


class CircuitBreaker:
    """After a failure, lets one thread at a time try until one succeeds; the others fail at once.

    A commit that waits for a standby keeps its connection to the server, even after its caller has given up:
    many of them would leave no connection for anybody.
    """

    def __init__(self) -> None:
        self._trying = threading.Lock()
        self._fault: str | None = None
        self._try_at = 0.0

    def fault(self) -> str | None:
        """Why the last attempt failed, if that was within the last minute."""
        is_recent = time.monotonic() - self._try_at < TELL_FAILURE_S
        return self._fault if is_recent else None

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Run the block, or raise UnreachableStoreError like the last attempt."""
        fault = self._fault
        if fault is None:
            with self._noting():
                yield
            return
        if time.monotonic() < self._try_at or not self._trying.acquire(blocking=False):
            raise UnreachableStoreError(fault)
        try:
            with self._noting():
                yield
        finally:
            self._trying.release()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except UnreachableStoreError as error:
            self._fault, self._try_at = str(error), time.monotonic() + PAUSE_S
            raise
        self._fault = None
