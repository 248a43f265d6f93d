"""The health of the server, and whether its answers are up to date."""

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from machines_server.contract.health import Health, NotReady
from machines_server.core.sample import Cycle
from machines_server.errors import NoMachineError, StoreError
from machines_server.services.health import HealthService
from machines_server.services.poller import PollerMonitor
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.coordination.leases import LeaseStore
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.telemetry.latest import LatestReader
from tests.fakes import wait_until
from tests.services.polled import Polled
from tests.store.booking import reserve


def test_health_names_every_fault_of_the_poller(polled: Polled) -> None:
    assert polled.services.health.health().poller.message is None
    clock, sockets = "the wall clock was changed by +3600 s", "could not open a connection"
    polled.lock.report_faults({"clock": clock, "poll": sockets})
    poller = polled.services.health.health().poller
    assert (poller.state, poller.message) == ("running", f"{clock}; {sockets}")
    an_hour_ago = time.time() - 3600
    polled.writer.write([Cycle(an_hour_ago, an_hour_ago, 0.1, 0.05)])
    wait_until(lambda: polled.services.health.health().poller.state == "stalled")
    message = polled.services.health.health().poller.message or ""
    assert message.startswith("the poller is stalled")
    assert message.endswith(f"; {clock}; {sockets}")


def test_readiness_is_judged_by_the_answer_that_users_get(polled: Polled, tmp_path: Path) -> None:
    readiness = polled.services.health.readiness
    assert isinstance(readiness(), Health)
    with closing(open_writer(tmp_path / "var" / "telemetry.db")) as connection:
        connection.execute("UPDATE latest SET host = '{', revision = revision + 1")
    not_ready = readiness()
    assert isinstance(not_ready, NotReady)
    assert "cannot be read" in not_ready.message
    assert not_ready.store.state == "error"
    assert not_ready.message == f"The answers are not up to date: {not_ready.store.message}."
    (machine,) = json.loads(polled.services.fleet.infrastructure().json)["machines"]
    assert machine["status"] == "unknown"
    polled.poll(3)
    assert isinstance(readiness(), Health)


def test_a_server_that_could_not_read_the_past_is_not_ready(polled: Polled, tmp_path: Path) -> None:
    monitor = PollerMonitor(PollerLock(tmp_path / "var" / "poller.lock"), tmp_path / "machines", 5, 2)
    store, fault = LatestReader(tmp_path / "var" / "telemetry.db"), "telemetry.db: a text in it is damaged"
    not_ready = HealthService(polled.services.fleet, store, monitor, lambda: fault).readiness()
    assert isinstance(not_ready, NotReady)
    assert (not_ready.store.state, not_ready.store.message) == ("error", fault)
    assert isinstance(HealthService(polled.services.fleet, store, monitor, lambda: None).readiness(), Health)


def test_a_server_whose_leases_cannot_be_read_is_not_ready_and_says_why(
    polled: Polled, tmp_path: Path
) -> None:
    health, leases = polled.services.health, tmp_path / "var" / "coordination.db"
    assert isinstance(health.readiness(), Health)
    leases.mkdir()
    not_ready = health.readiness()
    assert isinstance(not_ready, NotReady)
    assert (not_ready.store.state, "coordination.db" in (not_ready.store.message or "")) == ("error", True)
    assert health.health().store == not_ready.store
    leases.rmdir()
    assert isinstance(health.readiness(), Health)


def test_a_server_whose_leases_cannot_be_changed_is_not_ready_for_a_minute(
    polled: Polled, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turns = tmp_path / "var" / "coordination.lock"
    turns.mkdir()
    with pytest.raises(StoreError):
        polled.services.routing.lease({"model": "m"}, None)
    not_ready = polled.services.health.readiness()
    assert isinstance(not_ready, NotReady)
    assert "coordination.lock" in (not_ready.store.message or "")
    assert caplog.text.count("leases cannot be changed") == 1
    turns.rmdir()
    with pytest.raises(NoMachineError):
        polled.services.routing.lease({"model": "m"}, None)
    assert isinstance(polled.services.health.readiness(), Health)


def test_leases_that_vanish_with_their_file_are_told(
    polled: Polled, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "var" / "coordination.db"
    with closing(LeaseStore(path)) as other:
        reserve(other)
    assert polled.services.routing.leases().total == 1
    path.unlink()
    assert polled.services.routing.leases().total == 0
    assert caplog.text.count("coordination.db was deleted or replaced") == 1
