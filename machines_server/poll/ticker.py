"""Tells when regular work is due, by the monotonic clock, which cannot be set."""

import time


class Ticker:
    """Evenly spaced moments; one that was missed is skipped."""

    def __init__(self, every_s: float, first_in_s: float = 0.0) -> None:
        self._every_s, self._next = every_s, time.monotonic() + first_in_s

    def wait_s(self) -> float:
        """Seconds until the next moment."""
        return max(0.0, self._next - time.monotonic())

    def take(self) -> bool:
        """Return whether a moment has come; if so, move on to the next one in the future."""
        late_s = time.monotonic() - self._next
        if late_s < 0:
            return False
        self._next += (late_s // self._every_s + 1) * self._every_s
        return True

    def restart(self) -> None:
        """Make the next moment now."""
        self._next = time.monotonic()
