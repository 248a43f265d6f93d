"""The current FleetState, rebuilt on demand when what it depends on has changed."""

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import NamedTuple

from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle
from machines_server.core.snapshot import Snapshot
from machines_server.errors import DamagedStoreError, StoreError, UnreachableStoreError
from machines_server.failure_log import logger_of_failures
from machines_server.services.fleet_state import FleetState, build_state
from machines_server.services.poller import PollerMonitor
from machines_server.store.api import Present

log = logger_of_failures(__name__)


class StateVersion(NamedTuple):
    """What a FleetState was built from: files (compared by identity) and store (None if unreadable)."""

    registry: Registry
    store: Hashable


class CurrentState:
    """Rebuilds the FleetState when its version or the clock makes the last one invalid; thread-safe."""

    def __init__(
        self,
        registry: Callable[[float], Registry],
        registry_nowait: Callable[[], Registry | None],
        registry_unless_reported: Callable[[], Registry | None],
        store: Present,
        monitor: PollerMonitor,
    ) -> None:
        """`registry_nowait` returns None if it would block, the other one only if a change was reported."""
        self._registry, self._registry_nowait = registry, registry_nowait
        self._registry_unless_reported = registry_unless_reported
        self._store, self._monitor = store, monitor
        self._lock = threading.Lock()
        self._state: FleetState | None = None
        self._snapshot = Snapshot()
        """What was last read, for times when no server of the database answers."""
        self._version: StateVersion | None = None
        """What the state was built from."""

    def get(self) -> FleetState:
        """The current state."""
        with self._lock:
            now = time.time()
            version, state = self.version(), self._state
            if state is None or self._version != version or not state.is_valid(now):
                state = self._build(version, now)
            return state

    def get_newest(self) -> FleetState:
        """The current state, with all that any server has written before the call."""
        with suppress(StoreError):  # the state will say so
            self._store.catch_up()
        return self.get()

    def get_nowait(self) -> FleetState | None:
        """The current state, or None if it must be built or finding out would block."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            state, version = self._state, self._version
            is_current = (
                state is not None
                and version is not None
                and state.is_valid(time.time())
                and version.store is not None
                and self._registry_nowait() is version.registry
                and self._store.version_nowait() == version.store
            )
            return state if is_current else None
        finally:
            self._lock.release()

    def version(self) -> StateVersion:
        """A value that changes when files or polls do."""
        return StateVersion(self._registry(time.time()), self._store_version())

    def may_be_current(self, state: FleetState) -> bool:
        """Whether a state is current except for polls, as far as the kernel reports changes of files."""
        now = time.time()
        registry = self._registry_unless_reported()
        if registry is None:
            registry = self._registry(now)
        return state.is_valid(now) and state.registry is registry

    def may_be_current_nowait(self, state: FleetState) -> bool:
        """The same, but False if finding out would block."""
        return state.is_valid(time.time()) and state.registry is self._registry_unless_reported()

    def last_cycle(self) -> Cycle | None:
        """The latest finished cycle that was read."""
        return self._snapshot.cycle

    def read_fault(self) -> str | None:
        """Why the database cannot be read, or None; looks whether a fault is over."""
        state = self._state
        if state and state.read_fault:
            state = self.get()
        return state.read_fault if state else None

    def _store_version(self) -> Hashable:
        try:
            return self._store.version()
        except StoreError:
            return None

    def _build(self, version: StateVersion, now: float) -> FleetState:
        snapshot, read_fault = Snapshot(), None
        try:
            snapshot = self._store.snapshot()
            self._snapshot = snapshot
        except StoreError as error:
            version, read_fault = version._replace(store=None), with_remedy(error)
            if isinstance(error, UnreachableStoreError):
                snapshot = self._snapshot  # outdated, but the best there is
        report = self._monitor.report(snapshot.cycle, now, read_fault)
        state = build_state(version.registry, snapshot, report, now, read_fault, self._state)
        for machine, failure in state.failures:
            log.error("the state of machine %s cannot be determined", machine.name, exc_info=failure)
        self._version, self._state = version, state
        return state


def with_remedy(error: StoreError) -> str:
    """The error's message and, if the database is damaged, what to do about it."""
    return f"{error}; {error.remedy}" if isinstance(error, DamagedStoreError) else str(error)
