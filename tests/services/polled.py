"""Services over a real database, and what their poller writes into it."""

import time
from dataclasses import dataclass

from machines_server.core.machine import Machine
from machines_server.core.sample import Cycle, HostSample, PollResult, RuntimeState, State
from machines_server.process.compose import Services
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.telemetry.samples import SampleWriter

TEXT = "{name: one, role: r, hardware: {}, network: {hostname: 127.0.0.1}, models: []}"


@dataclass
class Polled:
    """Services, and what their poller does."""

    services: Services
    writer: SampleWriter
    machine: Machine
    lock: PollerLock

    def poll(self, cpu_percent: float, machine: Machine | None = None) -> None:
        """One answer of a sidecar, the first one's if not said, is written and may be looked for."""
        machine = machine or self.machine
        answer, now = RuntimeState(host=HostSample(cpu_percent=cpu_percent)), time.time()
        sidecar = machine.endpoints["sidecar"]
        self.writer.write([PollResult(machine.name, sidecar, State.OK, now, 0.01, None, answer)])

    def end_cycle(self) -> None:
        """A cycle ends now."""
        now = time.time()
        self.writer.write([Cycle(now - 0.1, now, 5, 2)])

    def advised_by(self) -> float | None:
        """The CPU load that advice is given by."""
        live = self.services.fleet.recent_fleet().state_of("one")
        assert live
        assert live.host
        return live.host.cpu_percent
