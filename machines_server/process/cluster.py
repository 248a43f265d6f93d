"""The stores of a server in a cluster; imported only in clusters."""

import hashlib
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from machines_server.core.access import Access
from machines_server.core.machine import Problem, Registry
from machines_server.core.poller_counts import Backlog, HistoryBacklog
from machines_server.core.reasons import Reason
from machines_server.core.sample import Cycle
from machines_server.core.shards import part_of, shard_of
from machines_server.core.status import too_old_after_s
from machines_server.credentials.content import UnusableError, authorization
from machines_server.credentials.files import AccessFiles
from machines_server.errors import NoAccessError, StoreError
from machines_server.inventory.own_services import OwnServices
from machines_server.poll.schedule import ReadRegistry
from machines_server.poll.second_opinion import REST_S, DoubtingSink, machines_that_answer
from machines_server.process.own_key import own_signing
from machines_server.process.stores import AnsweringStores, NoteLeases, PollingStores
from machines_server.process.tracing import cycle_tracing
from machines_server.settings import Settings
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.leases import PostgresLeases
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.meter import PostgresMeter
from machines_server.store.postgres.nonces import PostgresNonces
from machines_server.store.postgres.opinions import PostgresOpinions
from machines_server.store.postgres.past import PostgresPast
from machines_server.store.postgres.poll_writer import PollerId
from machines_server.store.postgres.poller_requests import SharedRequests
from machines_server.store.postgres.present import PostgresPresent, SeenPoller
from machines_server.store.postgres.session_secret import SharedSecret
from machines_server.store.postgres.shards import Member, ShardKeeper
from machines_server.store.postgres.shared_advice import AnnouncedAdvice
from machines_server.store.postgres.sink import PostgresSink
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.promql.writer import HistoryWriter
from machines_server.store.values import Retention, Update

DIFFERENT_S = 10.0
"""How long the machine files of two servers may differ without a warning."""


class Cluster:
    """Shared by the parts of one process; opens nothing until one of them is used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.database = Database(settings.database_url or "", settings.database_password_file)
        self.listener = Listener(self.database)
        self.background = Background(self.database)
        self.present = PostgresPresent(
            self.database, self.listener, settings.site, server_name(), settings.poll_interval_s
        )

    def answering(self, note_leases: NoteLeases) -> AnsweringStores:
        """The stores of a process that answers."""
        settings, site = self._settings, self._settings.site
        access, files = credential_in(settings.query_credential_file), FileComparison()
        measurements = PromqlSeries(settings.query_url or "", access, site=site)
        return AnsweringStores(
            present=self.present,
            watch=self.present,
            past=PostgresPast(self.database, site, measurements),
            leases=PostgresLeases(self.database, site, self.listener, self.background, note_leases),
            requests=SharedRequests(self.database, site, self.listener, self.background),
            advice=AnnouncedAdvice(site, self.listener, self.background),
            meter=PostgresMeter(self.database),
            own_services=OwnServices(settings.services_yaml),
            problems=lambda known: files.problems(known, self.present.pollers()),
            warnings=lambda: filter(None, [measurements.fault()]),
            now=self.present.now,
        )

    def polling(self, registry: ReadRegistry, on_problem: Callable[[Problem], None]) -> PollingStores:
        """The stores of a process that polls its share of the machines."""
        settings, read = self._settings, ReadFiles(registry)
        keeper = ShardKeeper(
            self.database,
            Member(
                settings.site,
                server_name(),
                settings.poll_interval_s,
                settings.poll_timeout_s,
                read.hash,
            ),
        )
        trace = cycle_tracing()

        def trace_cycle(machines: int) -> AbstractContextManager[object]:
            keeper.begin_cycle()
            return trace(machines)

        return PollingStores(
            read.current,
            OwnShare(keeper).of,
            keeper,
            lambda on_fault: self._open_sink(keeper, read, on_fault),
            SharedRequests(
                self.database,
                settings.site,
                self.listener,
                self.background,
                lambda name: shard_of(name) in keeper.held,
            ),
            OwnServices(settings.services_yaml, on_problem).current,
            trace_cycle,
        )

    def nonces(self) -> PostgresNonces:
        """The nonces of signed requests."""
        return PostgresNonces(self.database)

    def session_secret(self) -> SharedSecret:
        """The secret on which browser sessions depend."""
        secret = SharedSecret(self.database, self._settings.site, self.listener, self.background)
        with suppress(StoreError):  # until it is known, nobody is signed in
            secret.current()
        return secret

    def _open_sink(
        self, keeper: ShardKeeper, read: "ReadFiles", on_fault: Callable[[str | None], None]
    ) -> DoubtingSink:
        settings = self._settings
        history = HistoryWriter(
            settings.remote_write_url or "", credential_in(settings.remote_write_credential_file)
        )
        sink = PostgresSink(
            self.database,
            PollerId(keeper.id, settings.site, server_name()),
            max_gap_s=too_old_after_s(settings.poll_interval_s, settings.poll_timeout_s),
            on_fault=on_fault,
            measurements=history,
        )

        def reaches(names: Collection[str]) -> set[str]:
            machines = [machine for machine in read.last or () if machine.name.casefold() in names]
            return machines_that_answer(machines, settings.poll_timeout_s, access, own_signing())

        def note_own_fault(fault: str | None) -> None:
            keeper.note("network", fault)
            if fault:
                keeper.rest(REST_S)

        access = AccessFiles(settings.credentials_dir, settings.ca_dir).access
        return DoubtingSink(
            SinkWithHistory(sink, history, lambda fault: keeper.note("history", fault)),
            PostgresOpinions(self.database, settings.site, lambda: keeper.id),
            settings.poll_interval_s,
            settings.poll_timeout_s,
            reaches,
            note_own_fault,
        )


class ReadFiles:
    """Remembers the machine files last read for polling, for callers that must not wait for a reading."""

    def __init__(self, registry: ReadRegistry) -> None:
        self._registry = registry
        self.last: Registry | None = None
        """As they were read last."""

    def current(self, now: float, pause: Callable[[], object]) -> Registry:
        """The registry at `now`; reading many files takes seconds."""
        self.last = self._registry(now, pause)
        return self.last

    def hash(self) -> str:
        """The hash of the files that were read last, empty before; never waits."""
        return files_hash(self.last) if self.last is not None else ""


class OwnShare:
    """The machines of the shards that this process holds."""

    def __init__(self, keeper: ShardKeeper) -> None:
        self._keeper = keeper
        self._known: tuple[Registry, Mapping[int, int]] | None = None
        self._share = Registry()

    def of(self, registry: Registry) -> Registry:
        """Those in a registry; the same object while nothing changes."""
        known = registry, self._keeper.held
        if self._known is None or known[0] is not self._known[0] or known[1] is not self._known[1]:
            self._known, self._share = known, part_of(*known)
        return self._share


class SinkWithHistory:
    """Writes the present, and closes the writer of the past after it; implements Sink."""

    def __init__(
        self, sink: PostgresSink, history: HistoryWriter, on_fault: Callable[[str | None], None]
    ) -> None:
        """`on_fault` is called with the fault of the history once in each cycle."""
        self._sink, self._history, self._on_fault = sink, history, on_fault

    def put(self, item: Update) -> None:
        """Queue an update for writing."""
        self._sink.put(item)
        if isinstance(item, Cycle):
            self._on_fault(self._history.fault())

    def backlog(self) -> Backlog:
        """The updates that wait to be written."""
        counts = self._history.counts()
        history = HistoryBacklog(counts.waiting, counts.sent, counts.dropped)
        return replace(self._sink.backlog(), history=history)

    def close(self) -> bool:
        """Write what is left and stop; returns False if that takes too long."""
        return self._sink.close() and self._history.close()


class FileComparison:
    """Compares the machine files of this server with those of others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[tuple[str, str, str], float] = {}
        """When both hashes were first seen together, by hashes and name of the other server."""

    def problems(self, registry: Registry, pollers: Iterable[SeenPoller]) -> Iterator[Problem]:
        """A warning for each server whose files have differed for a while: changes reach all servers soon."""
        own, now = files_hash(registry), self._clock()
        read = [poller for poller in pollers if poller.is_there and poller.files]
        others = {(own, poller.files, poller.server) for poller in read}
        seen = {key: self._since.get(key, now) for key in others if key[1] != own}
        self._since = seen
        for (*_, server), since in sorted(seen.items()):
            if now - since >= DIFFERENT_S:
                message = (
                    f"the machine files of the server {server} differ from those of this one:"
                    " all servers of a site need the same"
                )
                yield Problem("*.yaml", message, severity="warning")


@lru_cache(maxsize=4)
def files_hash(registry: Registry) -> str:
    """A hash of the machine files, to compare those of several servers."""
    digest = hashlib.sha256()
    for machine in sorted(registry, key=lambda machine: machine.file):
        for text in (
            machine.file,
            machine.name,
            *(f"{key}={one}" for key, one in machine.declared_json.items()),
        ):
            digest.update(text.encode("utf-8", "surrogatepass"))
            digest.update(b"\0")
    return digest.hexdigest()[:16]


def credential_in(file: Path | None) -> Callable[[], Access]:
    """A function that returns the content of a credential file, read anew each time; raises NoAccessError."""

    def access() -> Access:
        if file is None:
            return Access()
        try:
            return Access(authorization=authorization(file.read_bytes()))
        except OSError as error:
            raise NoAccessError(Reason(f"unusable: {file.name}: {error.strerror}"), "", "") from error
        except UnusableError as error:
            raise NoAccessError(Reason(f"unusable: {file.name}: {error}"), "", "") from error

    return access


def server_name() -> str:
    """The name of this server for others."""
    return socket.gethostname()


def kept_elsewhere() -> Retention:
    """The retention in a cluster: the engine keeps raw samples, for as long as its own setting says."""
    forever_s = 100 * 365 * 86_400.0
    return Retention(raw_s=forever_s, minute_s=forever_s, hour_s=forever_s)


@cache
def cluster_of(settings: Settings) -> Cluster:
    """The Cluster of this process."""
    return Cluster(settings)
