"""What is on the disks of hosts: each Ollama's /api/tags, asked seldom, since it changes seldom."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from zlib import crc32

from machines_server.core.model_names import model_key
from machines_server.core.registry import Endpoint, Machine
from machines_server.core.sample import Library, LoadedModel, PollResult, StoredModel
from machines_server.errors import BadAnswerError
from machines_server.poll.fetch import Fetched, Fetcher
from machines_server.poll.parse import parse_tags

LOOK_S = 5.0
"""How often it is looked at who is due."""
REFRESH_S = 600.0
RETRY_S = 60.0
MAX_AT_ONCE = 200
"""A large fleet is asked in several looks."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One machine that was asked: which models are known of it, and when it is due again (monotonic)."""

    url: str
    due: float
    keys: frozenset[str]
    complaint: str | None = None


class Librarian:
    """Knows who is due, and asks; used by one thread, but for `hear`."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        self._held: dict[str, tuple[LoadedModel, ...]] = {}

    def hear(self, result: PollResult) -> None:
        """How a poll ended: an Ollama is asked while it answers, and again when it holds a new model."""
        if result.endpoint is not Endpoint.OLLAMA:
            return
        if isinstance(result.answer, tuple):
            self._held[result.machine] = result.answer
        else:
            self._held.pop(result.machine, None)

    def ask(self, machines: Iterable[Machine], timeout_s: float) -> Iterator[Library | None]:
        """The libraries of those that are due, as they come, and None while waiting."""
        now = time.monotonic()
        fleet = {machine.name: machine for machine in machines if machine.tags_url}
        self._asked = {name: asked for name, asked in self._asked.items() if name in fleet}
        for name in [name for name in tuple(self._held) if name not in fleet]:
            self._held.pop(name, None)
        due: dict[str, list[str]] = {}
        for name, machine in fleet.items():
            if machine.tags_url and len(due) < MAX_AT_ONCE and self._is_due(machine, now):
                due.setdefault(machine.tags_url, []).append(name)
        if not due:
            return
        with closing(Fetcher(timeout_s)) as fetcher:  # it is long until the next time: no connection is kept
            for fetched in fetcher.fetch(due):
                if fetched is None:
                    yield None
                    continue
                for name in due[fetched.url]:
                    yield self._library(name, fetched)

    def _is_due(self, machine: Machine, now: float) -> bool:
        held = self._held.get(machine.name)
        if held is None:
            return False
        asked = self._asked.get(machine.name)
        if asked is None or asked.url != machine.tags_url or asked.due <= now:
            return True
        return any(model_key(model.model) not in asked.keys for model in held)

    def _library(self, name: str, fetched: Fetched) -> Library | None:
        before = self._asked.get(name)
        held = frozenset(model_key(model.model) for model in self._held.get(name, ()))
        try:
            models = _models(fetched)
        except BadAnswerError as error:
            if before is None or before.complaint != str(error):
                log.info("machine %s: %s: %s", name, fetched.url, error)
            keys = held | (before.keys if before else frozenset())
            self._asked[name] = _Asked(fetched.url, time.monotonic() + RETRY_S, keys, str(error))
            return None
        keys = held.union(model_key(model.model) for model in models)
        # Spread, so that a fleet which was asked at once is not asked at once again.
        refresh_s = REFRESH_S * (0.8 + 0.4 * crc32(name.encode()) / 2**32)
        self._asked[name] = _Asked(fetched.url, time.monotonic() + refresh_s, keys)
        return Library(name, fetched.url, time.time(), models)


def _models(fetched: Fetched) -> tuple[StoredModel, ...]:
    if fetched.failure is not None:
        raise BadAnswerError(fetched.reason or "no answer")
    return parse_tags(fetched.body)
