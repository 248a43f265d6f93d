"""How many clients may be connected at once, and which connection is closed to make room for a new one."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Slot:
    """One connection; `end` closes it, in the next iteration of the event loop."""

    address: str
    end: Callable[[], object]


class ConnectionLimit:
    """Closes the connection that has gone longest without an answer when there are too many.

    So clients that are idle, send slowly or do not read are closed first, and a new one is never refused.
    """

    def __init__(self, slots: int, slots_per_address: int) -> None:
        self._slots, self._slots_per_address = slots, slots_per_address
        # Ordered by the latest answer, or by arrival before the first.
        self._all: dict[Slot, None] = {}
        self._by_address: dict[str, dict[Slot, None]] = {}

    def add(self, slot: Slot) -> None:
        """Add a new connection, closing another one if there are too many."""
        same_address = self._by_address.get(slot.address, {})
        if len(same_address) >= self._slots_per_address:
            self._close(next(iter(same_address)))
        elif len(self._all) >= self._slots:
            self.close_oldest()
        self._append(slot)

    def mark_answered(self, slot: Slot) -> None:
        """Note that a connection has just been answered."""
        if slot in self._all:
            self.remove(slot)
            self._append(slot)

    def remove(self, slot: Slot) -> None:
        """Forget a connection; nothing happens if it was closed to make room."""
        if self._all.pop(slot, slot) is None:
            same_address = self._by_address[slot.address]
            del same_address[slot]
            if not same_address:
                del self._by_address[slot.address]

    def close_oldest(self) -> bool:
        """Close the connection that has gone longest without an answer; False if there is none."""
        oldest = next(iter(self._all), None)
        if oldest is not None:
            self._close(oldest)
        return oldest is not None

    def _close(self, slot: Slot) -> None:
        self.remove(slot)
        slot.end()

    def _append(self, slot: Slot) -> None:
        self._all[slot] = None
        self._by_address.setdefault(slot.address, {})[slot] = None
