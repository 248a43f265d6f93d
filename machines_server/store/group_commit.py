"""Group commit: of the threads that want to write at the same moment, one writes for all."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Wish = TypeVar("Wish")
Take = Callable[[], Sequence[Wish]]
"""Takes the wishes of all threads that wait at that time, oldest first."""


class GroupCommit(Generic[Wish]):
    """Lets one thread at a time write, for itself and for those that came while another one wrote."""

    def __init__(self, write: Callable[[Take[Wish]], object], most: int | None = None) -> None:
        """`write` calls its argument once, when it can begin, to get the waiting wishes, and writes them.

        It stores the outcome in each wish. It gets at most `most` of them; None means no limit.
        """
        self._write, self._most = write, most
        self._changed = threading.Condition()
        self._waiting, self._taken = list[Wish](), list[Wish]()
        self._is_writing = False

    def add(self, wish: Wish) -> None:
        """Return once a thread has written a wish, which only that object equals, or has failed to.

        What `write` raises reaches the thread that called it; the wishes that it had not taken still wait.
        """
        with self._changed:
            self._waiting.append(wish)
        while self._must_write(wish):
            try:
                self._write(self._take)
            except BaseException:
                with self._changed:
                    if wish in self._waiting:
                        self._waiting.remove(wish)
                raise
            finally:
                with self._changed:
                    self._taken, self._is_writing = [], False
                    self._changed.notify_all()

    def _must_write(self, wish: Wish) -> bool:
        """Wait until a wish has been written (False), or until it is for this thread to write (True)."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_writing or wish not in (*self._waiting, *self._taken))
            if wish in self._waiting:
                self._is_writing = True
                return True
            return False

    def _take(self) -> Sequence[Wish]:
        with self._changed:
            self._taken = self._waiting[: self._most]
            del self._waiting[: self._most]
            return self._taken
