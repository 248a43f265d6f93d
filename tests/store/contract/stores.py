"""The stores that the contract is tested on; one that is added here must pass every test of this folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from machines_server.store.api import LeaderElection, Leases, Past, Present, Sink
from machines_server.store.api import PollerRequests as Requests
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.leases import PostgresLeases
from machines_server.store.postgres.listener import Listener
from machines_server.store.postgres.past import PostgresPast
from machines_server.store.postgres.poller_requests import SharedRequests
from machines_server.store.postgres.present import PostgresPresent
from machines_server.store.promql.writer import HistoryWriter
from machines_server.store.sqlite.coordination.leases import LeaseStore
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.coordination.poller_requests import PollerRequests
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.sqlite.telemetry.writer_thread import WriterThread
from machines_server.store.values import Retention
from tests.postgres import Gate, Postgres, through
from tests.store.contract.cluster import Flushed, SinkOfAll
from tests.store.promql.engines import Engine

KEEP_ALL = Retention(raw_s=1e9, minute_s=1e9, hour_s=1e9)
MAX_GAP_S = 12.0
"""What is polled later than this after the poll before it does not continue it."""


class Closes(Protocol):
    def close(self) -> object: ...


Opened = TypeVar("Opened", bound=Closes)


class Stores(Protocol):
    """One empty store. Each call makes an object as another process would; it can be sent to a process.

    A store that lacks a part as yet skips the tests of it.
    """

    def present(self) -> Present: ...

    def past(self) -> Past: ...

    def sink(self, on_fault: Callable[[str | None], None]) -> Sink:
        """Keeps everything, and takes MAX_GAP_S for the longest gap."""

    def leases(self) -> Leases: ...

    def election(self, folder: Path | None = None) -> LeaderElection: ...

    def requests(self) -> Requests: ...

    def break_off(self) -> None:
        """Make the store unavailable, but for who polls."""

    def mend(self) -> None:
        """Make it available again, with what was in it."""

    def close(self) -> None:
        """Close what all objects that were made here have opened together."""


@dataclass(frozen=True)
class SqliteStores:
    """Files in a folder of their own."""

    folder: Path

    def present(self) -> LatestReader:
        return LatestReader(self.folder / "telemetry.db")

    def past(self) -> PastReader:
        return PastReader(self.folder / "telemetry.db")

    def sink(self, on_fault: Callable[[str | None], None]) -> WriterThread:
        path = self.folder / "telemetry.db"
        return WriterThread(path, max_gap_s=MAX_GAP_S, retention=KEEP_ALL, on_fault=on_fault)

    def leases(self) -> LeaseStore:
        return LeaseStore(self.folder / "coordination.db")

    def election(self, folder: Path | None = None) -> PollerLock:
        return PollerLock(self.folder / "poller.lock", folder)

    def requests(self) -> PollerRequests:
        return PollerRequests(self.folder / "wanted")

    def break_off(self) -> None:
        for path in self.folder.glob("*.db"):
            path.rename(path.with_suffix(".away"))
            path.mkdir()

    def mend(self) -> None:
        for path in self.folder.glob("*.away"):
            path.with_suffix(".db").rmdir()
            path.rename(path.with_suffix(".db"))

    def close(self) -> None:
        """Each object closes what it opens."""


@dataclass(frozen=True)
class PostgresStores:
    """A database of its own, reached through a gate that can be shut."""

    url: str
    gate: Gate
    engine: Engine
    engine_gate: Gate
    site: str
    opened: list[Closes] = field(default_factory=list, compare=False)

    def present(self) -> PostgresPresent:
        database = self._open(Database(self.url))
        return PostgresPresent(database, self._open(Listener(database)), self.site, "here", 0.0)

    def past(self) -> PostgresPast:
        return PostgresPast(
            self._open(Database(self.url)),
            self.site,
            self._open(Flushed(self.engine, f"http://127.0.0.1:{self.engine_gate.port}", self.site)),
        )

    def sink(self, on_fault: Callable[[str | None], None]) -> Sink:
        history = HistoryWriter(self.engine.write_url)
        return SinkOfAll(self._open(Database(self.url)), self.site, history, on_fault)

    def leases(self) -> PostgresLeases:
        database = self._open(Database(self.url))
        listener, background = self._open(Listener(database)), self._open(Background(database))
        return PostgresLeases(database, self.site, listener, background)

    def election(self, folder: Path | None = None) -> LeaderElection:  # noqa: ARG002  the protocol names it
        pytest.skip("pollers of several servers divide the machines instead")

    def requests(self) -> SharedRequests:
        database = self._open(Database(self.url))
        listener, background = self._open(Listener(database)), self._open(Background(database))
        return SharedRequests(database, self.site, listener, background)

    def break_off(self) -> None:
        self.gate.shut()
        self.engine_gate.shut()

    def mend(self) -> None:
        self.gate.open()
        self.engine_gate.open()

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()
        self.gate.close()
        self.engine_gate.close()

    def _open(self, made: Opened) -> Opened:
        self.opened.append(made)
        return made


def sqlite(folder: Path, _: pytest.FixtureRequest) -> Stores:
    return SqliteStores(folder)


def postgres(_: Path, request: pytest.FixtureRequest) -> Stores:
    running: Postgres = request.getfixturevalue("postgres")
    engine: Engine = request.getfixturevalue("victoria")
    gate, url = Gate(running.port), running.new_database()
    site = f"lab-{url.rpartition('/')[2]}"
    return PostgresStores(through(url, gate.port), gate, engine, Gate(engine.port), site)


STORES: list[Callable[[Path, pytest.FixtureRequest], Stores]] = [sqlite, postgres]


def told(past: Past, *types: str) -> list[tuple[str, dict[str, Any]]]:
    """All events, oldest first."""
    events = past.events([], types, 0, 1e11, 100).events
    return [(event.type, dict(event.detail)) for event in reversed(events)]
