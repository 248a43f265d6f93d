"""Requests to pollers: all of them look for a model, and one polls a machine soon."""

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from machines_server.core.model_names import canonical
from machines_server.errors import StoreError
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Connection, Database
from machines_server.store.postgres.listener import Listener
from machines_server.store.values import Requested

REQUESTS_CHANNEL = "machines_requests"
"""Where requests are announced; the payload is the site."""
KEEP_REQUESTS_S = 30.0
"""How long a request waits for pollers."""
LOOK_S, LOOK_UNTOLD_S = 5.0, 1.0
"""How often a poller looks for missed requests, and how often if it gets no announcements."""
MAX_REQUESTED = 1000
"""How many requests of a site are kept, the latest."""
_OF_MODEL, _OF_MACHINE = "model", "machine"
_ASK = """
INSERT INTO request (site, kind, word, asked_at_ms) VALUES (%(site)s, %(kind)s, %(word)s, now_ms())
ON CONFLICT (site, kind, word) DO UPDATE SET number = DEFAULT, asked_at_ms = EXCLUDED.asked_at_ms"""
_KEEP_ASKED_MS = round(1000 * KEEP_REQUESTS_S)
_FORGET_ASKED = f"""
DELETE FROM request WHERE site = %(site)s AND asked_at_ms < (SELECT now_ms()) - {_KEEP_ASKED_MS}"""
_ASKED = f"""
SELECT kind, word, number FROM request
WHERE site = %(site)s AND asked_at_ms >= (SELECT now_ms()) - {_KEEP_ASKED_MS}
ORDER BY number DESC LIMIT {MAX_REQUESTED}"""
_TAKE_REQUESTS = """
WITH taken AS (SELECT unnest(%(numbers)s::bigint[]) AS number)
DELETE FROM request USING taken
WHERE site = %(site)s AND kind = %(kind)s AND request.number = taken.number RETURNING word"""

log = logging.getLogger(__name__)


class SharedRequests:
    """Implements PollerRequests for one site; only the thread of a poller may look and take."""

    def __init__(
        self,
        database: Database,
        site: str,
        listener: Listener,
        background: Background,
        is_mine: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`is_mine` returns whether this process polls the machine with that name."""
        self._database, self._site = database, site
        self._listener, self._background, self._is_mine = listener, background, is_mine
        self._is_subscribed, self._is_told, self._look_at = False, True, 0.0
        self._models: dict[str, int] = {}
        """The numbers of the requests for models that are open or were taken."""
        self._taken: dict[str, int] = {}
        self._machines: dict[str, int] = {}

    def look_for(self, model: str) -> None:
        """Request a search for a model on disks, unless no model can have that name."""
        key = canonical(model)
        if key is not None:
            self._ask(_OF_MODEL, key)

    def poll_soon(self, machines: Iterable[str]) -> None:
        """Request that machines be polled before the next cycle."""
        for machine in machines:
            self._ask(_OF_MACHINE, machine)

    def is_empty(self) -> bool:
        """Whether there are no requests, as far as announced; looks now and then."""
        if self._is_told or time.monotonic() >= self._look_at:
            self._look()
        return not self._machines and self._models.items() <= self._taken.items()

    def take(self) -> Requested:
        """Return the requests since the last call: models for all pollers, machines of this one."""
        self._look()
        models = {model for model, number in self._models.items() if self._taken.get(model) != number}
        self._taken = self._models
        values = {"site": self._site, "kind": _OF_MACHINE, "numbers": list(self._machines.values())}
        machines: set[str] = set()
        if self._machines:
            try:
                machines = {word for (word,) in self._database.run(_TAKE_REQUESTS, values)}
            except StoreError as error:
                log.debug("requests cannot be taken: %s", error)
        taken, self._machines = self._machines, {}
        return Requested(frozenset(models), tuple(name for name in taken if name in machines))

    def _ask(self, kind: str, word: str) -> None:
        self._background.do((kind, word), partial(self._write, kind, word))
        self._background.announce(REQUESTS_CHANNEL, self._site)

    def _write(self, kind: str, word: str, connection: Connection) -> None:
        connection.execute(_ASK, {"site": self._site, "kind": kind, "word": word})

    def _look(self) -> None:
        if not self._is_subscribed:
            self._is_subscribed = True
            self._listener.subscribe(REQUESTS_CHANNEL, self._hear, self._look_soon)
        self._is_told = False
        self._look_at = time.monotonic() + (LOOK_S if self._listener.is_listening() else LOOK_UNTOLD_S)
        try:
            asked = self._database.run(_ASKED, {"site": self._site})
        except StoreError as error:
            log.debug("requests cannot be read: %s", error)
            return
        asked.reverse()
        self._models = {word: number for kind, word, number in asked if kind == _OF_MODEL}
        self._machines = {
            word: number for kind, word, number in asked if kind == _OF_MACHINE and self._is_mine(word)
        }
        if asked:
            self._background.do("forget requests", self._forget)

    def _forget(self, connection: Connection) -> None:
        connection.execute(_FORGET_ASKED, {"site": self._site})

    def _hear(self, site: str) -> None:
        if site == self._site:
            self._is_told = True

    def _look_soon(self) -> None:
        self._is_told = True
