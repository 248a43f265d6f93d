"""A server with five live hosts, watched all the time: what it says about them while in trouble itself."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest
import requests

from machines_server.store.sqlite.connection import open_reader
from tests.bodies import gpu_body
from tests.fakes import FakeEndpoint, FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer

HOSTS = [f"host{number}" for number in range(5)]
INTERVAL_S, TIMEOUT_S = 1.0, 0.5
ALLOWED = {"online", "unknown"}
_LOOK_S = 0.1
_NEAR_S = 0.45
"""A sample belongs to a request when their times lie no further apart than this."""

Rows = set[tuple[int, int]]


def rows(path: Path) -> Rows:
    """Every sample that is committed: machine and time."""
    with closing(open_reader(path)) as connection:
        return set(connection.execute("SELECT machine_id, at_ms FROM sample"))


def last_event(path: Path) -> int:
    """The number of the latest event."""
    with closing(open_reader(path)) as connection:
        (number,) = connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
        return int(number)


class Watch:
    """Asks /api/infrastructure and /health all the time, in a thread of its own."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.statuses: list[tuple[float, dict[str, str]]] = []
        self.faults: list[tuple[float, str]] = []
        self.answers, self.failures = 0, list[str]()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def seen(self, since: float = 0.0) -> set[str]:
        """Every status that was shown of any machine since then (monotonic)."""
        return {status for at, fleet in self.statuses if at >= since for status in fleet.values()}

    def all_are(self, status: str, since: float) -> float | None:
        """When, since then, all machines were first shown with this status."""
        for at, fleet in self.statuses:
            if at >= since and len(fleet) == len(HOSTS) and set(fleet.values()) == {status}:
                return at
        return None

    def said(self, since: float) -> set[str]:
        """What /health named since then."""
        return {fault for at, fault in self.faults if at >= since}

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            at = time.monotonic()
            try:
                fleet = self._server.fleet()
                health = self._server.get("/health").json()
            except (requests.RequestException, ValueError, KeyError) as error:
                self.failures.append(repr(error))
                continue
            self.answers += 2
            self.statuses.append((at, {name: machine["status"] for name, machine in fleet.items()}))
            for part in ("poller", "store"):
                if message := health[part]["message"]:
                    self.faults.append((at, f"{part}: {message}"))


class Scene:
    """The running server, its hosts, and what was seen of them."""

    def __init__(self, server: RunningServer, hosts: dict[str, FakeEndpoint], watch: Watch) -> None:
        self.server, self.hosts, self.watch = server, hosts, watch
        self.database = server.data / "telemetry.db"
        self.committed: Rows = set()

    def note_committed(self) -> int:
        """Remember what is in the database now: it must never go away."""
        self.committed |= rows(self.database)
        return len(self.committed)

    def wait_for_all(self, status: str, since: float, within_s: float) -> float:
        """Seconds from `since` until all machines were shown with this status."""
        try:
            at = wait_until(partial(self.watch.all_are, status, since), within_s)
        except AssertionError:
            last = self.watch.statuses[-1:]
            text = f"not all {status} within {within_s:g} s: {last}, said: {self.watch.said(since)}"
            raise AssertionError(f"{text}\n{self.server.log.read_text()[-6000:]}") from None
        assert at is not None
        return at - since

    def wait_for_word(self, text: str, since: float, within_s: float) -> str:
        """What /health said since then that has `text` in it."""

        def found() -> str | None:
            return next((fault for fault in self.watch.said(since) if text in fault), None)

        try:
            word = wait_until(found, within_s)
        except AssertionError:
            said = self.watch.said(since)
            raise AssertionError(f"{said}\n{self.server.log.read_text()[-6000:]}") from None
        assert word is not None
        return word

    def wait_until_well(self, since: float, within_s: float = 15) -> float:
        """Seconds from `since` until all are online, and /health/ready says that all is up to date."""
        self.wait_for_all("online", since, within_s)
        wait_until(self._is_ready, within_s)
        return time.monotonic() - since

    def unwritten(self, since: float, until: float) -> list[tuple[str, float]]:
        """The requests that hosts answered in that time (monotonic) and that no sample tells of."""
        offset = time.time() - time.monotonic()
        with closing(open_reader(self.database)) as connection:
            sql = "SELECT name, at_ms / 1000.0 FROM sample JOIN machine ON machine.id = machine_id"
            samples: dict[str, list[float]] = {}
            for name, at in connection.execute(sql):
                samples.setdefault(name, []).append(at - offset)
        return [
            (name, asked)
            for name, host in self.hosts.items()
            for asked in list(host.asked_at)
            if since <= asked <= until and not any(abs(at - asked) < _NEAR_S for at in samples[name])
        ]

    def longest_gap_s(self, since: float) -> float:
        """The longest time for which a host was not asked."""
        asked = [[since, *(at for at in host.asked_at if at > since)] for host in self.hosts.values()]
        return max(later - earlier for one in asked for earlier, later in pairwise(one))

    def _is_ready(self) -> bool:
        with suppress(requests.RequestException):
            return self.server.get("/health/ready").ok
        return False


def declare(folder: Path, fakes: FakeFleet) -> dict[str, FakeEndpoint]:
    """Five live hosts and their machine files; returns the sidecars by name."""
    machines = folder / "machines"
    machines.mkdir()
    hosts = {}
    for name in HOSTS:
        hosts[name] = fakes.sidecar(gpu_body(0, used_gb=1))
        (machines / f"{name}.yaml").write_text(machine_yaml(name, hosts[name], fakes.ollama("phi3:mini")))
    return hosts


@contextmanager
def scene(folder: Path, hosts: dict[str, FakeEndpoint], **settings: str) -> Iterator[Scene]:
    """A server that polls `hosts`, once all are online; at its end nothing may be lost or blamed on them."""
    database = Path(settings.get("MACHINES_DATA_DIR", folder / "var")) / "telemetry.db"
    before, told = (rows(database), last_event(database)) if database.exists() else (set(), 0)
    with RunningServer(folder, **settings) as server:
        server.data = database.parent
        with Watch(server) as watch:
            found = Scene(server, hosts, watch)
            found.committed = set(before)
            found.wait_for_all("online", 0, 20)
            wait_until(lambda: found.note_committed() >= len(before) + 2 * len(HOSTS))
            yield found
        assert watch.seen() <= ALLOWED, [one for one in watch.statuses if set(one[1].values()) - ALLOWED]
    assert_whole(database, found.committed, told)


def assert_whole(database: Path, committed: Rows, told: int = 0) -> None:
    """The database is sound, has all that was committed, and blames no machine after the event `told`.

    Whatever the clock says, which may be set: events are numbered.
    """
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        blamed = connection.execute(
            "SELECT name, type, event.detail FROM event JOIN machine ON machine.id = machine_id"
            " WHERE type IN ('offline', 'degraded') AND event.id > ?",
            (told,),
        ).fetchall()
        assert blamed == []
        there = set(connection.execute("SELECT machine_id, at_ms FROM sample"))
    assert committed <= there, f"{len(committed - there)} of {len(committed)} samples are lost"


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    """One line of what was seen."""
    with capsys.disabled():
        print(f"\n{line}", flush=True)  # noqa: T201  what it is for
