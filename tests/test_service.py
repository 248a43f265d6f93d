"""What stands now, for those who show it and for those who give advice by it."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from machines_server.config import load_settings
from machines_server.core.registry import Endpoint, Machine, Registry
from machines_server.core.sample import Cycle, HostSample, PollResult, State
from machines_server.core.status import Status
from machines_server.machine_file import parse_machine
from machines_server.poller_lock import PollerLock
from machines_server.service import LOOK_S, UNDER_WAY_S, Service
from machines_server.store.connection import open_writer
from machines_server.store.migrate import migrate
from machines_server.store.rollups import Retention, Rollups
from machines_server.store.samples import SampleWriter
from machines_server.wsgi import make_service
from tests.fakes import wait_until

TEXT = "{name: one, role: r, hardware: {}, network: {hostname: 127.0.0.1}, models: []}"


@dataclass
class Polled:
    """A service, and what its poller does."""

    service: Service
    writer: SampleWriter
    machine: Machine
    lock: PollerLock

    def poll(self, cpu_percent: float, machine: Machine | None = None) -> None:
        """One answer of a sidecar, the first one's if not said, is written and may be looked for."""
        machine = machine or self.machine
        answer, now = HostSample(cpu_percent=cpu_percent), time.time()
        url = machine.endpoints[Endpoint.SIDECAR]
        self.writer.write(
            [PollResult(machine.name, Endpoint.SIDECAR, url, State.OK, now, 0.01, None, answer)]
        )
        time.sleep(LOOK_S)

    def end_cycle(self) -> None:
        """A cycle ends now."""
        now = time.time()
        self.writer.write([Cycle(now - 0.1, now, 5, 2)])
        time.sleep(LOOK_S)

    def advised_by(self) -> float | None:
        """The CPU load that advice is given by."""
        live = self.service.recent_fleet().live("one")
        assert live
        assert live.host
        return live.host.cpu_percent


@pytest.fixture
def polled(tmp_path: Path) -> Iterator[Polled]:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "one.yaml").write_text(TEXT)
    settings, _ = load_settings(
        {"MACHINES_DIR": str(tmp_path / "machines"), "MACHINES_DATA_DIR": str(tmp_path / "var")}
    )
    migrate(settings.telemetry_db)
    machine = parse_machine(TEXT.encode(), "one.yaml").machine
    assert machine
    lock = PollerLock(settings.poller_lock, settings.dir)
    assert lock.acquire()
    with closing(open_writer(settings.telemetry_db)) as connection:
        writer = SampleWriter(connection, 12, Rollups(connection, Retention(3600, 3600, 3600)))
        writer.write([Registry((machine,), loaded_at=time.time())])
        polled = Polled(make_service(settings), writer, machine, lock)
        polled.poll(1)
        polled.end_cycle()
        yield polled
    lock.release()


def test_advice_takes_the_polls_of_a_cycle_when_it_ends(polled: Polled) -> None:
    assert polled.advised_by() == 1
    polled.poll(2)
    assert polled.advised_by() == 1
    polled.end_cycle()
    assert polled.advised_by() == 2


def test_what_is_polled_outside_of_a_cycle_is_part_of_advice_soon(polled: Polled) -> None:
    assert polled.advised_by() == 1
    polled.poll(2)
    assert polled.advised_by() == 1
    began = time.monotonic()
    wait_until(lambda: polled.advised_by() == 2, 5)
    assert time.monotonic() - began < UNDER_WAY_S + 1


def test_what_is_shown_has_every_poll_at_once_and_so_has_advice_then(polled: Polled) -> None:
    assert polled.advised_by() == 1
    polled.poll(2)
    (shown,) = json.loads(polled.service.infrastructure().json)["machines"]
    assert shown["telemetry"]["cpu_percent"] == 2
    assert polled.advised_by() == 2


def test_a_new_machine_is_part_of_advice_at_once(tmp_path: Path, polled: Polled) -> None:
    assert polled.advised_by() == 1
    (tmp_path / "machines" / "two.yaml").write_text(TEXT.replace("one", "two"))
    live = polled.service.recent_fleet().live("two")
    assert live
    assert live.verdict.status is Status.UNKNOWN
    polled.writer.write([Registry((polled.machine, live.machine), loaded_at=time.time())])
    polled.poll(2, live.machine)
    live = polled.service.recent_fleet().live("two")
    assert live
    assert live.verdict.status is Status.ONLINE


def test_health_names_every_fault_of_the_poller(polled: Polled) -> None:
    assert polled.service.health()["poller"]["message"] is None
    clock, sockets = "the wall clock was set by +3600 s", "could not open a connection"
    polled.lock.note({"clock": clock, "poll": sockets})
    health = polled.service.health()["poller"]
    assert (health["state"], health["message"]) == ("running", f"{clock}; {sockets}")
    an_hour_ago = time.time() - 3600
    polled.writer.write([Cycle(an_hour_ago, an_hour_ago, 0.1, 0.05)])
    wait_until(lambda: polled.service.health()["poller"]["state"] == "stalled", 5)
    message = polled.service.health()["poller"]["message"]
    assert message.startswith("the poller is stalled")
    assert message.endswith(f"; {clock}; {sockets}")
