"""Whether the machines are polled, and what is wrong with the poller."""

import os
from dataclasses import dataclass
from pathlib import Path

from machines_server.contract.health import Poller
from machines_server.core.sample import Cycle
from machines_server.core.status import PollerState, judge_poller, too_old_after_s
from machines_server.core.text import printable
from machines_server.core.times import rfc3339
from machines_server.store.api import PollerWatch
from machines_server.store.values import Leader


@dataclass(frozen=True, slots=True)
class PollerReport:
    """The poller at one moment, as the API shows it.

    `fault` is why nothing is known about any machine, None while they are polled. Polls older than
    `max_poll_age_s` are outdated. `store_fault` is why the database cannot be used, or None.
    """

    shown: Poller
    fault: str | None
    max_poll_age_s: float
    store_fault: str | None = None


class PollerMonitor:
    """Judges the poller by its lock and by the latest cycle."""

    def __init__(self, watch: PollerWatch, config_dir: Path, interval_s: float, timeout_s: float) -> None:
        """Interval and timeout apply until the first finished cycle reports its own."""
        self._watch = watch
        self._config_dir = os.path.realpath(config_dir)
        self._interval_s, self._timeout_s = interval_s, timeout_s

    def report(self, cycle: Cycle | None, now: float, store_fault: str | None = None) -> PollerReport:
        """The poller at `now`; `store_fault` is why the database cannot be read, or None."""
        leader = self._watch.leader()
        obstacle = None if leader else self._watch.obstacle()
        interval_s = cycle.interval_s if cycle else self._interval_s
        max_age_s = too_old_after_s(interval_s, cycle.timeout_s if cycle else self._timeout_s)
        state = self._state(cycle, leader, now, max_age_s)
        faults = leader.faults if leader else {}
        parts = (faults.get(part) for part in ("store", "clock", "poll", "files", "network", "history"))
        # Whether a poller runs is unknown while the database that tells cannot be read.
        judged = None if store_fault and obstacle else state.fault
        messages = (judged, faults.get("lock") or obstacle, *parts)
        shown = Poller(
            state=state.state,
            last_cycle_at=rfc3339(cycle.ended_at) if cycle else None,
            interval_s=interval_s,
            cycle_s=round(cycle.ended_at - cycle.started_at, 3) if cycle else None,
            message=printable("; ".join(filter(None, messages))) or None,
        )
        fault = state.fault
        if leader and fault:  # it polls, but what it learns cannot be read here
            fault = faults.get("store") or store_fault or fault
        elif fault and obstacle:
            fault = store_fault or obstacle
        return PollerReport(shown, fault, max_age_s, self._write_fault(leader) or store_fault)

    def _state(self, cycle: Cycle | None, leader: Leader | None, now: float, max_age_s: float) -> PollerState:
        if leader and leader.folder not in (None, self._config_dir):
            fault = f"process {leader.pid} polls the machine files of another folder, {leader.folder}"
            return PollerState("stopped", fault)
        return judge_poller(cycle, leader.since if leader else None, now, max_age_s)

    def _write_fault(self, leader: Leader | None) -> str | None:
        return leader.faults.get("store") if leader else self._watch.write_fault()
