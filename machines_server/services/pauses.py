"""Pauses in long work in the background, in which threads that answer need not wait for it."""

import time

PIECE = 8
"""The steps between two pauses; some 0.3 ms, if each is the evaluation of a machine."""
SHORT_PAUSE_S = 0.002
MAX_PAUSES_S = 0.5
"""After this time there are no more pauses, so that the work is not out of date when it is done."""


class Pauses:
    """Those of one piece of work, by one thread.

    Only one thread of Python runs at a time. One that works on and on makes each of the others wait whenever
    it comes back from the operating system, which it does several times for each answer.
    """

    def __init__(self) -> None:
        self._steps, self._until = 0, time.monotonic() + MAX_PAUSES_S

    def pause(self) -> None:
        """Pause after some steps; call it after each."""
        self._steps += 1
        if self._steps % PIECE == 0 and time.monotonic() < self._until:
            time.sleep(SHORT_PAUSE_S)
