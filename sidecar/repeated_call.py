"""A call that is repeated in a thread of its own, because it may hang."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def max_silence_s(interval_s: float) -> float:
    """How long a driver that is read every `interval_s` may take to answer."""
    return max(3.0, 3 * interval_s)


class RepeatedCall(Generic[T]):
    """Makes one call repeatedly without ever waiting longer than allowed; `call` must not raise."""

    def __init__(self, call: Callable[[], T], not_before: float = float("-inf")) -> None:
        """No call is made before `not_before` on the monotonic clock."""
        self._call = call
        self._not_before = not_before
        self._asked, self._answered = threading.Semaphore(0), threading.Event()
        self._asked_at: float | None = None
        self._answered_at = float("-inf")
        self.answer: T | None = None
        """The latest answer; None before the first."""
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def is_skipped(self) -> bool:
        """Whether it is too early for a call."""
        return time.monotonic() < self._not_before

    @property
    def overdue_s(self) -> float:
        """How long an answer has been due; 0 if none is."""
        return 0.0 if self._asked_at is None else time.monotonic() - self._asked_at

    @property
    def age_s(self) -> float:
        """How old the latest answer is."""
        return time.monotonic() - self._answered_at

    def ask(self, within_s: float) -> bool:
        """Call unless a call is pending, and return whether there is a new answer.

        Waits only for a call that has just begun, and for at most `within_s`.
        """
        if self.is_skipped:
            return False
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._asked.release()
            self._answered.wait(within_s)
        if not self._answered.is_set():
            return False
        self._answered.clear()
        self._asked_at = None
        return True

    def _run(self) -> None:
        while True:
            self._asked.acquire()
            self.answer, self._answered_at = self._call(), time.monotonic()
            self._answered.set()
