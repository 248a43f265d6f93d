"""Turns of tests that run beside each other in several processes: most share one, some are alone."""

import fcntl
from contextlib import ExitStack
from pathlib import Path


class Turns:
    """Locks in a folder that all processes of one run share; one for each process."""

    def __init__(self, folder: Path) -> None:
        self._door, self._room = folder / "door", folder / "room"
        self._turn: ExitStack | None = None

    def begin(self, *, alone: bool) -> None:
        """Wait until no other process is alone and, to be `alone`, until no other one runs a test.

        Does nothing in a turn that has begun.
        """
        if self._turn is not None:
            return
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        with ExitStack() as turn:
            # Whoever waits to be alone holds the door, so that no more come in.
            door, room = turn.enter_context(self._door.open("ab")), turn.enter_context(self._room.open("ab"))
            fcntl.flock(door, kind)
            fcntl.flock(room, kind)
            if not alone:
                fcntl.flock(door, fcntl.LOCK_UN)
            self._turn = turn.pop_all()

    def end(self) -> None:
        """End the turn."""
        if self._turn is not None:
            self._turn.close()
            self._turn = None
