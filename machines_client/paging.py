"""Goes through more events than one answer has."""

import logging

from machines_client.parameters import EventOptions
from machines_client.past_answers import Event, Events

FOLLOW_WAIT_S = 30.0
"""How long the server may wait for the next event."""
_PAUSE_S = 1.0
"""The least time between two answers without an event."""


log = logging.getLogger("machines_client")


class Pages:
    """Goes from page to page: `question` asks for the next one."""

    def __init__(self, options: EventOptions) -> None:
        self.question: EventOptions = {**options}
        self._is_forward = options.get("after") is not None

    def events(self, page: Events) -> list[Event]:
        """The events of a page, in the order of the whole."""
        return sorted(page.events, key=lambda event: event.id) if self._is_forward else list(page.events)

    def turn(self, page: Events) -> bool:
        """Return whether there is a page after this one; `question` then asks for it."""
        if not page.truncated or page.next is None:
            return False
        self.question["after" if self._is_forward else "before"] = page.next
        return True


class Following:
    """Follows events as they happen: `question` asks for the next ones."""

    def __init__(self, options: EventOptions) -> None:
        for name in ("to", "before"):
            if options.get(name) is not None:
                raise TypeError(f"follow takes no {name}, since it has no end; every_event does")
        wait_s = options.get("wait_s")
        self.question: EventOptions = {**options, "wait_s": FOLLOW_WAIT_S if wait_s is None else wait_s}
        if options.get("from_") is not None and options.get("after") is None:
            self.question["after"] = 0

    @property
    def newest(self) -> EventOptions | None:
        """The question for the newest event, after which to begin; None if the caller says where to begin."""
        if self.question.get("after") is not None:
            return None
        return {**self.question, "limit": 1, "wait_s": None}

    def begin_after(self, page: Events) -> None:
        """Begin after the newest event."""
        self.question["after"] = page.newest or max((event.id for event in page.events), default=0)

    def events(self, page: Events) -> list[Event]:
        """The events of a page, oldest first; `question` then asks for later ones."""
        events, after = sorted(page.events, key=lambda event: event.id), int(self.question.get("after") or 0)
        if events:
            self.question["after"] = events[-1].id
        elif (page.body.get("newest", after) or 0) < after:  # an older server does not report it
            log.warning("the server has a new database, without event %s: continuing with its first", after)
            self.question["after"] = 0
        return events

    def pause_s(self, page: Events, took_s: float) -> float:
        """How long to wait before the next question."""
        return 0.0 if page.events else max(_PAUSE_S - took_s, 0.0)
