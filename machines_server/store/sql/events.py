"""The rows of events, which are written in the transaction of the sample or registry that shows them."""

from typing import Protocol

import orjson

from machines_server.core.past.events import Event


class EventTable(Protocol):
    """The table to which events are written."""

    def add(self, machine: int, event: Event) -> None:
        """Write an event of the machine with that id."""


def event_row(machine: int, event: Event) -> tuple[int, int, str, str]:
    """The time (ms), machine, type and detail (JSON) of an event."""
    return to_ms(event.at), machine, event.type, orjson.dumps(event.detail).decode()


def to_ms(at: float) -> int:
    """Epoch seconds as milliseconds, which a database keeps."""
    return round(at * 1000)
