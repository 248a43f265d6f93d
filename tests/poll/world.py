"""What a Poller is given: a folder, a lock and a sink."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from machines_server.core.machine import Machine, Registry
from machines_server.core.poller_counts import Backlog
from machines_server.core.sample import Cycle, Library, PollResult, Sample
from machines_server.poll.schedule import Poller, Timing
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.coordination.poller_requests import PollerRequests
from machines_server.store.values import Update
from tests.core.machines import a_machine
from tests.fakes import FakeEndpoint
from tests.latch import Latch

Item = Update


T = TypeVar("T", Registry, PollResult, Sample, Cycle, Library)


class World:
    """What a Poller is given: a folder of files, each with the port of an Ollama, and a list as its sink."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder / "machines", folder / "var" / "poller.lock"
        self.folder.mkdir()
        self.items: list[Item] = []
        self.closed = 0
        self.on_put: Callable[[Item], None] = lambda _: None
        self.on_fault: Callable[[str | None], None] = lambda _: None
        self.reading = Latch()
        """At which whoever reads files waits while it is closed."""
        self.pauses_s: list[float] = []
        """How long the pauses after files that changed took."""
        self._registry = Registry()
        self._seen: list[tuple[str, str]] = []

    def declare(self, name: str, ollama: FakeEndpoint) -> None:
        """Drop a file."""
        (self.folder / name).write_text(str(ollama.port))

    def registry(self, now: float, pause: Callable[[], object]) -> Registry:
        """A new one when a file has changed, as RegistryFiles does."""
        self.reading.pass_through()
        seen = sorted((path.name, path.read_text()) for path in self.folder.iterdir())
        if seen != self._seen:
            machines = [self._machine(name, int(port)) for name, port in seen if port]
            for _ in machines:
                began = time.monotonic()
                pause()
                self.pauses_s.append(time.monotonic() - began)
            self._seen, self._registry = seen, Registry(tuple(machines), loaded_at=now)
        return self._registry

    def _machine(self, name: str, port: int) -> Machine:
        return a_machine(name, port=port, has_sidecar=False)

    def open_sink(self, on_fault: Callable[[str | None], None]) -> "World":
        self.on_fault = on_fault
        return self

    def put(self, item: Item) -> None:
        self.items.append(item)
        self.on_put(item)

    def backlog(self) -> Backlog:
        return Backlog()

    def close(self) -> bool:
        self.closed += 1
        return True

    def came(self, kind: type[T]) -> list[T]:
        return [item for item in self.items if isinstance(item, kind)]

    @contextmanager
    def polled(self, interval_s: float, timeout_s: float) -> Iterator[threading.Event]:
        """While a Poller runs; the event stops it."""
        poller = Poller(
            Timing(interval_s, timeout_s),
            self.registry,
            PollerLock(self.lock),
            self.open_sink,
            PollerRequests(self.lock.with_name("wanted")),
        )
        stop = threading.Event()
        thread = threading.Thread(target=poller.run, args=[stop])
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
