"""The server's health, and whether its answers are up to date."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version

from machines_server.contract.health import Health, NotReady, Store
from machines_server.core.sample import Cycle
from machines_server.core.text import printable
from machines_server.errors import StoreError, UnreachableStoreError
from machines_server.failure_log import logger_of_failures
from machines_server.services.current_state import with_remedy
from machines_server.services.fleet import FleetService
from machines_server.services.poller import PollerMonitor
from machines_server.store.api import Leases, Present

log = logger_of_failures(__name__)


class HealthService:
    """Judges the server by its poller, its database, and the answers that it gives."""

    def __init__(
        self,
        fleet: FleetService,
        store: Present,
        monitor: PollerMonitor,
        past_fault: Callable[[], str | None],
        warnings: Sequence[str] = (),
        more_warnings: Callable[[], Iterable[str]] = tuple,
        leases: Leases | None = None,
    ) -> None:
        """`past_fault` returns why the last query about the past failed, if that was recent.

        `leases` are those without which this server is not ready; None if their fault is only a warning.
        `warnings` were found at startup; `more_warnings` returns the current ones.
        """
        self._fleet, self._store, self._monitor = fleet, store, monitor
        self._past_fault = past_fault
        self._warnings, self._more_warnings, self._leases = warnings, more_warnings, leases

    def health(self) -> Health:
        """What is wrong with the poller and the database, whether or not answers are up to date."""
        cycle, read_fault = None, self._fleet.read_fault()
        try:
            cycle = self._store.cycle()
        except StoreError as error:
            read_fault = with_remedy(error)
            if isinstance(error, UnreachableStoreError):
                cycle = self._fleet.last_cycle()
        report = self._monitor.report(cycle, time.time(), read_fault)
        fault = report.store_fault or (self._leases.fault() if self._leases else None)
        store = Store("error", printable(fault)) if fault else Store("ok", None)
        warnings = [*self._warnings, *map(printable, self._more_warnings())]
        return Health(_version(), report.shown, store, warnings)

    def cycle(self) -> Cycle | None:
        """The latest finished cycle; None if there is none, or if that cannot be found out."""
        try:
            return self._store.cycle()
        except StoreError:
            return None

    def readiness(self) -> Health | NotReady:
        """The health, or why answers are not up to date, judged by the answer that users would get now."""
        fault = self._past_fault()
        try:
            self._fleet.infrastructure()
        except Exception:
            log.exception("answering about the fleet failed")
            fault = "answers about the fleet fail; see the log"
        if self._leases:
            with suppress(StoreError):  # the health says so
                self._leases.read()
        health = self.health()
        store = health.store
        if store.state == "ok" and fault:
            store = Store("error", fault)
        if store.state == "ok" and health.poller.state == "running":
            return health
        why = store.message or health.poller.message
        return NotReady(
            message=f"The answers are not up to date: {why}.",
            version=health.version,
            poller=health.poller,
            store=store,
            warnings=health.warnings,
        )


@cache
def _version() -> str:
    return version("machines-server")
