"""Pauses in long background work, which give the threads that answer requests a turn."""

import time

PIECE = 8
"""The steps between two pauses; some 0.3 ms, if each is the evaluation of a machine."""
SHORT_PAUSE_S = 0.002
MAX_PAUSES_S = 0.5
"""After this time there are no more pauses, so that the work is not out of date when it is done."""


class Pauses:
    """Those of one piece of work, by one thread.

    Only one thread runs Python code at a time (the GIL). A thread that computes without a pause makes every
    other thread wait after each of its system calls, of which an answer needs several.
    """

    def __init__(self) -> None:
        self._steps, self._until = 0, time.monotonic() + MAX_PAUSES_S

    def pause(self) -> None:
        """Pause after some steps; call it after each."""
        self._steps += 1
        if self._steps % PIECE == 0 and time.monotonic() < self._until:
            time.sleep(SHORT_PAUSE_S)
