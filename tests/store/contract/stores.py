"""The stores that the contract is tested on; one that is added here must pass every test of this folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from machines_server.store.api import LeaderElection, Leases, Past, Present, Sink
from machines_server.store.api import PollerRequests as Requests
from machines_server.store.sqlite.coordination.leases import LeaseStore
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.coordination.poller_requests import PollerRequests
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.sqlite.telemetry.writer_thread import WriterThread
from machines_server.store.values import Retention

KEEP_ALL = Retention(raw_s=1e9, minute_s=1e9, hour_s=1e9)
MAX_GAP_S = 12.0
"""What is polled later than this after the poll before it does not continue it."""


class Stores(Protocol):
    """One empty store. Each call makes an object as another process would; it can be sent to a process."""

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


STORES: list[Callable[[Path], Stores]] = [SqliteStores]


def told(past: Past, *types: str) -> list[tuple[str, dict[str, Any]]]:
    """All events, oldest first."""
    events = past.events([], types, 0, 1e11, 100).events
    return [(event.type, dict(event.detail)) for event in reversed(events)]
