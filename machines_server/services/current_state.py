"""The current FleetState, rebuilt on demand when what it depends on has changed."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from machines_server.core.machine import Registry
from machines_server.core.snapshot import Snapshot
from machines_server.errors import DamagedStoreError, StoreError
from machines_server.failure_log import logger_of_failures
from machines_server.services.fleet_state import FleetState, build_state
from machines_server.services.poller import PollerMonitor
from machines_server.store.api import Present

log = logger_of_failures(__name__)


class StateVersion(NamedTuple):
    """What a FleetState was built from: files (compared by identity) and store (None if unreadable)."""

    registry: Registry
    store: Hashable


@dataclass(slots=True)
class _Entry:
    """A state, what it was built from, and when it was last known to be current (epoch seconds)."""

    state: FleetState
    version: StateVersion
    current_at: float


class CurrentState:
    """Rebuilds the FleetState once its version or the clock makes the last one invalid; thread-safe."""

    def __init__(
        self,
        registry: Callable[[float], Registry],
        registry_at_once: Callable[[], Registry | None],
        store: Present,
        monitor: PollerMonitor,
    ) -> None:
        """`registry_at_once` returns None if it would block."""
        self._registry, self._registry_at_once = registry, registry_at_once
        self._store, self._monitor = store, monitor
        self._lock = threading.Lock()
        self._entry: _Entry | None = None

    def get(self, max_lag_s: float = 0.0) -> FleetState:
        """The current state; polls of an unfinished cycle may be missing for up to `max_lag_s`."""
        with self._lock:
            now = time.time()
            version, entry = StateVersion(self._registry(now), self._store_version()), self._entry
            if entry is not None and entry.state.is_valid(now):
                if entry.version == version:
                    entry.current_at = now
                    return entry.state
                is_recent = 0 <= now - entry.current_at < max_lag_s
                if is_recent and entry.version.registry is version.registry and self._may_lag(entry.state):
                    return entry.state
            self._entry = self._build(version, now)
            return self._entry.state

    def get_at_once(self) -> FleetState | None:
        """The current state, or None if it must be built or finding out would block."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            entry = self._entry
            is_current = (
                entry is not None
                and entry.state.is_valid(time.time())
                and entry.version.store is not None
                and self._registry_at_once() is entry.version.registry
                and self._store.version_at_once() == entry.version.store
            )
            return entry.state if entry and is_current else None
        finally:
            self._lock.release()

    def version(self) -> StateVersion:
        """A value that changes when files or polls do."""
        return StateVersion(self._registry(time.time()), self._store_version())

    def read_fault(self) -> str | None:
        """Why the database could not be read for the last state, or None."""
        entry = self._entry
        return entry.state.read_fault if entry else None

    def _store_version(self) -> Hashable:
        try:
            return self._store.version()
        except StoreError:
            return None

    def _may_lag(self, state: FleetState) -> bool:
        """Whether no cycle has ended since, and every machine has been polled."""
        try:
            return not state.fleet.has_unknown and self._store.cycle() == state.cycle
        except StoreError:
            return False

    def _build(self, version: StateVersion, now: float) -> _Entry:
        snapshot, read_fault = Snapshot(), None
        try:
            snapshot = self._store.snapshot()
        except StoreError as error:
            version, read_fault = version._replace(store=None), with_remedy(error)
        report = self._monitor.report(snapshot.cycle, now, read_fault)
        before = self._entry.state if self._entry else None
        state = build_state(version.registry, snapshot, report, now, read_fault, before)
        for machine, failure in state.failures:
            log.error("the state of machine %s cannot be determined", machine.name, exc_info=failure)
        return _Entry(state, version, now)


def with_remedy(error: StoreError) -> str:
    """The error's message and, if the database is damaged, what to do about it."""
    return f"{error}; {error.remedy}" if isinstance(error, DamagedStoreError) else str(error)
