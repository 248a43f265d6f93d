"""Answers Prometheus: the metrics of fleet and server, and where the sidecars are."""

import gzip
import threading
import time
from collections import Counter
from collections.abc import Sequence

from machines_server.contract.encoding import encode
from machines_server.core.routing.fleet import Fleet
from machines_server.counts.counts import Counts
from machines_server.errors import StoreError, TooMuchError
from machines_server.exposition.families import SAMPLE_AGE
from machines_server.exposition.fleet import FleetLines, Lines, age_lines, text_of_lines
from machines_server.exposition.targets import sidecar_targets
from machines_server.services.fleet import FleetService
from machines_server.services.fleet_state import FleetState
from machines_server.services.health import HealthService
from machines_server.services.routing import Routing
from machines_server.store.api import PollerCountsBoard, StoreMeter

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SCRAPE_LEVEL = 1
"""A scrape is large and sent only once, so that compressing it well costs more than it saves."""


class ExpositionService:
    """Renders one scrape at a time, since each takes a few dozen milliseconds; for threads of a process."""

    def __init__(
        self,
        fleet: FleetService,
        health: HealthService,
        routing: Routing,
        counts: Counts,
        board: PollerCountsBoard,
        meter: StoreMeter,
        auth_mode: str,
    ) -> None:
        self._fleet, self._health, self._routing = fleet, health, routing
        self._counts, self._board, self._meter, self._auth_mode = counts, board, meter, auth_mode
        self._lock = threading.Lock()
        self._lines = FleetLines()
        self._known: tuple[FleetState, Lines] | None = None

    def metrics(self, routes: Sequence[str], *, is_reader: bool) -> bytes:
        """The series of the server and, for a reader or unless signatures are enforced, of the fleet.

        `routes` are the names of the routes by their numbers in the counts.
        """
        with self._lock:
            state = self._fleet.state()
            of_fleet = self._of_fleet(state) if is_reader or self._auth_mode != "enforce" else ""
            return of_fleet.encode() + self._of_server(state.fleet, routes)

    @staticmethod
    def gzipped(text: bytes) -> bytes:
        """An exposition compressed with gzip."""
        return gzip.compress(text, _SCRAPE_LEVEL, mtime=0)

    def targets(self) -> bytes:
        """The sidecars as JSON of HTTP service discovery."""
        return encode(sidecar_targets(self._fleet.registry(time.time())))

    def _of_fleet(self, state: FleetState) -> str:
        """The series of the machines; those that depend only on the state are cached with it."""
        known, lines = self._known or (None, {})
        if known is not state:
            severities = Counter({"error": 0, "warning": 0})
            severities.update(problem.severity for problem in self._fleet.problems(state))
            lines = self._lines.write(state.fleet, severities)
            self._known = state, lines
        return text_of_lines({**lines, SAMPLE_AGE.name: list(age_lines(state.fleet, time.time()))})

    def _of_server(self, fleet: Fleet, routes: Sequence[str]) -> bytes:
        from machines_server.exposition.server import ServerFacts, server_text

        cycle = self._health.cycle()
        active, due = self._active_leases(fleet), self._due_rollups()
        return server_text(
            ServerFacts(
                now=time.time(),
                health=self._health.health(),
                totals=self._counts.totals(),
                routes=routes,
                auth_mode=self._auth_mode,
                last_cycle_at=cycle.ended_at if cycle else None,
                poller=self._board.read(),
                sizes=self._meter.sizes(),
                due_rollups=due,
                active_leases=active,
            )
        )

    def _active_leases(self, fleet: Fleet) -> int | None:
        """How many leases are in force, after ending those whose time is up; None if unknown."""
        try:
            return self._routing.count_leases(fleet)
        except StoreError:
            return None

    def _due_rollups(self) -> int | None:
        try:
            return self._meter.due_rollups(time.time())
        except (StoreError, TooMuchError):
            return None
