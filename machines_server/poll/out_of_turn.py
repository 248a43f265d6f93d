"""Which machines to poll before their turn, because somebody waits for their answers."""

import threading
import time
from collections.abc import Callable, Iterable

AGAIN_S = 0.5
"""The pause between two such polls of one machine."""
MAX_OUT_OF_TURN = 20
"""How many machines are polled together; the others follow."""
MAX_WAITING = 1000
"""Machines beyond this number are polled in their turn."""


class OutOfTurn:
    """The machines to poll soon, first come, first served; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._waiting: dict[str, None] = {}
        self._polled_at: dict[str, float] = {}

    def add(self, machines: Iterable[str]) -> None:
        """Add machines to poll; one that is already waiting keeps its place."""
        with self._lock:
            for name in machines:
                if len(self._waiting) < MAX_WAITING:
                    self._waiting.setdefault(name)

    def is_empty(self) -> bool:
        """Whether no machine waits."""
        return not self._waiting

    def take(self) -> list[str]:
        """Remove and return the machines to poll now; the others still wait."""
        now = self._clock()
        with self._lock:
            self._polled_at = {name: at for name, at in self._polled_at.items() if now - at < AGAIN_S}
            ready = [name for name in self._waiting if name not in self._polled_at][:MAX_OUT_OF_TURN]
            for name in ready:
                del self._waiting[name]
                self._polled_at[name] = now
            return ready
