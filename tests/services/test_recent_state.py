"""Advice about a large fleet need not wait until the state of all its machines is built."""

import time
from pathlib import Path

import pytest

from machines_server.core.machine import Registry
from machines_server.core.routing.fleet import Fleet
from machines_server.core.sample import Cycle, HostSample, PollResult, RuntimeState, State
from machines_server.services.current_state import CurrentState
from machines_server.services.poller import PollerMonitor
from machines_server.services.recent_state import LARGE_FLEET, RecentState
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.telemetry.latest import LatestReader
from tests.core.machines import a_machine
from tests.fakes import wait_until
from tests.services.polled import Polled


class Declared:
    """So many machines, which a poller polls."""

    def __init__(self, polled: Polled, folder: Path, count: int) -> None:
        self.registry = Registry(tuple(a_machine(f"m{number}") for number in range(count)))
        self._writer = polled.writer
        self._writer.write([Registry(self.registry.machines, loaded_at=time.time())])
        self.poll(1)
        store = LatestReader(folder / "var" / "telemetry.db")
        monitor = PollerMonitor(PollerLock(folder / "var" / "poller.lock"), folder / "machines", 5, 2)

        def registry() -> Registry:
            return self.registry

        self.current = CurrentState(lambda _: registry(), registry, registry, store, monitor)

    def end_cycle(self) -> None:
        """Another cycle ends, in which nobody was polled."""
        now = time.time()
        self._writer.write([Cycle(now - 0.1, now, 5, 2)])

    def poll(self, cpu_percent: float) -> None:
        """All machines are polled, and answer that."""
        now, answer = time.time(), RuntimeState(host=HostSample(cpu_percent=cpu_percent))
        results = [
            PollResult(machine.name, machine.endpoints["sidecar"], State.OK, now, 0.01, None, answer)
            for machine in self.registry
        ]
        self._writer.write([*results, Cycle(now - 0.1, now, 5, 2)])


def used(fleet: Fleet) -> float | None:
    """The CPU load of the first machine."""
    host = fleet.states[0].host
    return host.cpu_percent if host else None


@pytest.fixture
def large(polled: Polled, tmp_path: Path) -> Declared:
    return Declared(polled, tmp_path, LARGE_FLEET)


def test_the_state_of_a_small_fleet_is_never_outdated(polled: Polled, tmp_path: Path) -> None:
    small = Declared(polled, tmp_path, LARGE_FLEET - 1)
    recent = RecentState(small.current)
    for load in range(2, 6):
        small.poll(load)
        assert used(recent.get(_ignore).fleet) == load


def test_that_of_a_large_one_is_built_in_the_background_and_prepared_before_it_is_used(
    large: Declared,
) -> None:
    recent, prepared = RecentState(large.current, max_lag_s=60), list[Fleet]()
    before = recent.get(prepared.append)
    large.poll(2)

    def is_renewed() -> bool:
        known, fleet = list(prepared), recent.get(prepared.append).fleet
        assert fleet is before.fleet or fleet in known or fleet in prepared
        return used(fleet) == 2

    assert not is_renewed()
    wait_until(is_renewed)
    assert [used(fleet) for fleet in prepared] == [2]


def test_nobody_has_to_build_a_state_that_is_renewed_in_time(large: Declared) -> None:
    recent, prepared = RecentState(large.current), list[Fleet]()

    def prepare(fleet: Fleet) -> None:
        time.sleep(0.6)
        prepared.append(fleet)

    prepared.append(recent.get(prepare).fleet)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        large.poll(2)
        for _ in range(10):
            assert recent.get(prepare).fleet in prepared
            time.sleep(0.02)
    assert len(prepared) > 3


def test_an_idle_server_answers_by_what_is_so_now(large: Declared) -> None:
    recent = RecentState(large.current, max_lag_s=0.05)
    recent.get(_ignore)
    large.poll(2)
    time.sleep(0.1)
    assert used(recent.get(_ignore).fleet) == 2


def test_a_change_of_the_files_is_part_of_it_at_once(large: Declared) -> None:
    recent = RecentState(large.current)
    recent.get(_ignore)
    large.registry = Registry((*large.registry.machines, a_machine("new")))
    assert recent.get(_ignore).fleet.state_of("new")


def test_at_once_is_the_same_state_or_none(large: Declared, polled: Polled, tmp_path: Path) -> None:
    recent = RecentState(large.current)
    assert recent.get_nowait(_ignore) is None
    state = recent.get(_ignore)
    assert recent.get_nowait(_ignore) is state
    large.registry = Registry((*large.registry.machines, a_machine("new")))
    assert recent.get_nowait(_ignore) is None
    assert recent.get(_ignore) is recent.get_nowait(_ignore)
    small = Declared(polled, tmp_path, LARGE_FLEET - 1)
    of_small = RecentState(small.current)
    assert of_small.get(_ignore) is of_small.get_nowait(_ignore)
    small.poll(2)
    assert of_small.get_nowait(_ignore) is None


def test_a_failure_is_logged_and_no_state_is_kept_for_longer_than_it_may(
    large: Declared, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Fleet) -> None:
        raise ValueError("some fault")

    recent = RecentState(large.current, max_lag_s=4)
    recent.get(fails)
    large.poll(2)
    wait_until(lambda: used(recent.get(fails).fleet) == 2)
    assert "some fault" in caplog.text


def test_nothing_is_prepared_for_the_same_fleet(large: Declared) -> None:
    recent, prepared = RecentState(large.current, max_lag_s=60), list[Fleet]()
    before = recent.get(prepared.append)
    large.end_cycle()
    wait_until(lambda: recent.get(prepared.append) is not before)
    assert recent.get(prepared.append).fleet is before.fleet
    assert prepared == []


def _ignore(_: Fleet) -> None:
    pass
