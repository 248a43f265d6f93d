"""Polls the models on hosts' disks: each minute, and at once when the list may have changed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import closing
from dataclasses import dataclass, replace
from zlib import crc32

from machines_server.core.machine import Endpoint, Machine
from machines_server.core.model_names import model_key
from machines_server.core.reasons import Reason
from machines_server.core.sample import Library, LoadedModel, PollResult, State, UnchangedLibrary
from machines_server.core.shards import shard_of
from machines_server.errors import BadAnswerError, NoAccessError
from machines_server.failure_log import logger_of_failures
from machines_server.poll.failures import UNREADABLE
from machines_server.poll.fetch import Fetched, Fetcher
from machines_server.poll.targets import AccessOf, Target, no_access
from machines_server.runtimes.base import Kinds, Stored
from machines_server.runtimes.fields import Oddities
from machines_server.runtimes.kinds import KINDS

LIBRARY_CHECK_INTERVAL_S = 5.0
"""How often to check which machines are due."""
LIST_INTERVAL_S = 60.0
FULL_LIST_INTERVAL_S = 600.0
"""How often even an unchanged list is passed on in full, since a reader may have lost it."""
WANTED_AGAIN_S, MAX_WANTED_AT_ONCE = 5.0, 20
"""The pause between two requests to one machine because a question named an unknown model, and how many
machines are asked at once."""
MAX_AT_ONCE = 400
"""Larger fleets are asked in several rounds."""

log = logger_of_failures(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The latest request to one machine, the models known from it, and when the next is due.

    Times are monotonic. An answer with the same `body_hash` is not passed on again until `whole_until`,
    unless the `epoch` of the machine's shard has changed: what was passed on may not have been written.
    """

    url: str
    epoch: int | None
    at: float
    due: float
    keys: frozenset[str]
    complaint: str | None = None
    body_hash: int | None = None
    whole_until: float = 0.0
    oddities: Oddities | None = None


class LibraryPoller:
    """Asks machines for their models when due; for one thread, except for `note`."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        kinds: Kinds = KINDS,
        access: AccessOf = no_access,
    ) -> None:
        self._clock = clock
        self._kinds, self._access = kinds, access
        self._asked: dict[str, _Asked] = {}
        self._held: dict[str, tuple[LoadedModel, ...]] = {}
        self._returned: set[str] = set()
        """The machines whose model server has just come back."""
        self._wanted: dict[str, float] = {}
        self._epochs: Mapping[int, int] = {}

    def has_wanted(self) -> bool:
        """Return whether machines are yet to be asked for models that questions named."""
        return bool(self._wanted)

    def note(self, result: PollResult) -> None:
        """Note a poll: a model server that came back or loaded a new model is asked at once.

        Adds what was odd about its list to the reason of the result.
        """
        if result.endpoint.reports_host:
            return
        asked = self._asked.get(result.machine)
        if asked and asked.oddities and result.state is State.OK:
            result.reason = "; ".join(filter(None, (result.reason, f"on its disk: {asked.oddities}")))
        models = result.answer.models if result.answer else None
        if models is None:
            self._held.pop(result.machine, None)
            return
        if result.machine not in self._held:
            self._returned.add(result.machine)
        self._held[result.machine] = models

    def poll(
        self,
        machines: Iterable[Machine],
        timeout_s: float,
        wanted: Set[str] = frozenset(),
        epochs: Mapping[int, int] | None = None,
    ) -> Iterator[Library | UnchangedLibrary | None]:
        """Ask the machines that are due; yields libraries as they arrive, and None while waiting.

        `wanted` has the keys of models that questions named and no machine is known to have, `epochs` those
        of the shards that this process holds, if there are several servers.
        """
        now, self._epochs = self._clock(), epochs or {}
        servers = {
            machine.name: machine.model_server
            for machine in machines
            if machine.model_server and self._path(machine.model_server)
        }
        self._asked = {name: asked for name, asked in self._asked.items() if name in servers}
        for name in [name for name in tuple(self._held) if name not in servers]:
            self._held.pop(name, None)
        names = [name for name, server in servers.items() if self._is_due(name, server, now)][:MAX_AT_ONCE]
        names += self._wanted_from(servers.keys() - names, wanted, now)
        due: dict[Target, list[str]] = {}
        for name in names:
            self._returned.discard(name)
            if target := self._target(servers[name]):
                due.setdefault(target, []).append(name)
        if not due:
            return
        with closing(Fetcher(timeout_s)) as fetcher:  # the next round is a while away, so keep no connections
            for fetched in fetcher.fetch(due):
                if fetched is None:
                    yield None
                    continue
                for name in due[fetched.target]:
                    yield self._library(name, servers[name], fetched)

    def _target(self, server: Endpoint) -> Target | None:
        """The target of the list; None if its credential cannot be used, which each cycle reports."""
        try:
            access = self._access(server) if server.needs_access else None
        except NoAccessError:
            return None
        return Target(f"{server.url}{self._path(server)}", access)

    def _path(self, server: Endpoint) -> str | None:
        return self._kinds[server.kind].library_path

    def _is_due(self, name: str, server: Endpoint, now: float) -> bool:
        held = self._held.get(name)
        if held is None:
            return False
        asked = self._asked.get(name)
        if asked is None or asked.url != server.url or asked.due <= now or name in self._returned:
            return True
        if asked.epoch != self._epoch(name):
            return True
        return any(model_key(model.model) not in asked.keys for model in held)

    def _epoch(self, name: str) -> int | None:
        return self._epochs.get(shard_of(name)) if self._epochs else None

    def _wanted_from(self, names: Set[str], wanted: Set[str], now: float) -> list[str]:
        """The few of `names` to ask for wanted models, the least recently asked first."""
        self._wanted = {key: at for key, at in self._wanted.items() if now - at < LIST_INTERVAL_S}
        self._wanted |= dict.fromkeys(wanted, now)
        if not self._wanted:
            return []
        lacking = [
            (asked.at, name)
            for name in names & self._held.keys()
            if (asked := self._asked.get(name))
            and any(asked.at < at and key not in asked.keys for key, at in self._wanted.items())
        ]
        if not lacking:
            self._wanted = {}
        ready = sorted((at, name) for at, name in lacking if now - at >= WANTED_AGAIN_S)
        return [name for _, name in ready[:MAX_WANTED_AT_ONCE]]

    def _library(self, name: str, server: Endpoint, fetched: Fetched) -> Library | UnchangedLibrary | None:
        url, before, now = server.url, self._asked.get(name), self._clock()
        epoch = self._epoch(name)
        held = frozenset(model_key(model.model) for model in self._held.get(name, ()))
        # Spread out machines that were asked together.
        due = now + LIST_INTERVAL_S * (0.8 + 0.4 * crc32(name.encode()) / 2**32)
        at, body_hash = time.time() - fetched.took_s, hash(fetched.body)
        answer = url, epoch, body_hash
        is_same = before and (before.url, before.epoch, before.body_hash) == answer and held <= before.keys
        if fetched.failure is None and before and is_same and now < before.whole_until:
            self._asked[name] = replace(before, at=now, due=due)
            return UnchangedLibrary(name, url, at)
        try:
            models, odd = self._read(server, fetched)
        except BadAnswerError as error:
            if before is None or before.complaint != str(error):
                log.info("machine %s: %s: %s", name, fetched.url, error)
            keys = held | (before.keys if before else frozenset())
            self._asked[name] = _Asked(url, epoch, now, due, keys, str(error))
            return None
        keys = held.union(model_key(model.model) for model in models)
        if odd and (before is None or before.oddities is None or before.oddities.kinds != odd.kinds):
            log.warning("machine %s: %s: %s", name, fetched.url, odd)
        whole_until = now + FULL_LIST_INTERVAL_S
        self._asked[name] = _Asked(url, epoch, now, due, keys, None, body_hash, whole_until, odd)
        return Library(name, url, at, models)

    def _read(self, server: Endpoint, fetched: Fetched) -> Stored:
        if fetched.failure is not None:
            raise BadAnswerError(fetched.reason or Reason("no answer"))
        try:
            return self._kinds[server.kind]().read_library(fetched.body)
        except BadAnswerError:
            raise
        except Exception:  # a bug in reading one answer must not stop the others
            log.exception("an answer of %s could not be read", fetched.url)
            raise BadAnswerError(UNREADABLE) from None
