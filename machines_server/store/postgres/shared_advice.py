"""Advice to load a model, which the processes of a site share through announcements.

Nothing depends on it: advice that is lost only makes two callers more likely to go to one machine.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence

import orjson

from machines_server.core.routing.advised import Advice
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.listener import Listener

ADVICE_CHANNEL = "machines_advice"
MAX_NEWS = 1000
"""How many of the latest pieces of advice from other processes are kept for the next question."""
_MAX_PAYLOAD_BYTES = 7000
"""PostgreSQL announces no more than 7,999 bytes."""


class AnnouncedAdvice:
    """Implements AdviceBoard; without announcements, as behind some poolers, nothing is shared."""

    def __init__(self, site: str, listener: Listener, background: Background) -> None:
        self._site, self._listener, self._background = site, listener, background
        self._me = secrets.token_hex(8)
        self._lock, self._is_subscribed = threading.Lock(), False
        self._news = deque[Advice](maxlen=MAX_NEWS)

    def add(self, advice: Advice) -> None:
        """Tell the other processes; never raises, never blocks."""
        told = orjson.dumps([self._site, self._me, advice.machine, advice.model, advice.loads_s])
        if len(told) <= _MAX_PAYLOAD_BYTES:
            self._background.announce(ADVICE_CHANNEL, told.decode())

    def news(self) -> Sequence[Advice]:
        """What other processes have told since the last call; never raises."""
        if not self._is_subscribed:
            self._subscribe()
        if not self._news:
            return ()
        with self._lock:
            news = tuple(self._news)
            self._news.clear()
        return news

    def _subscribe(self) -> None:
        with self._lock:
            if not self._is_subscribed:
                self._is_subscribed = True
                self._listener.subscribe(ADVICE_CHANNEL, self._hear, lambda: None)

    def _hear(self, told: str) -> None:
        """Keep advice with its time by this server's clock."""
        site, process, machine, model, loads_s = orjson.loads(told)
        if site != self._site or process == self._me:
            return
        with self._lock:
            self._news.append(Advice(str(machine), str(model), time.time(), float(loads_s or 0.0)))
