"""When hosts are polled: at a steady rhythm, and at once if they are new."""

import time
from asyncio import StreamWriter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle, PollResult, Sample, State
from machines_server.poll.schedule import READ_PAUSE_S
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.coordination.poller_requests import PollerRequests
from tests.bodies import http, ollama_body
from tests.fakes import FakeFleet, wait_until
from tests.poll.world import World


def test_cycles_begin_in_a_steady_rhythm_however_long_they_last(world: World, fakes: FakeFleet) -> None:
    world.declare("slow", fakes.listen(None))
    world.declare("quick", fakes.ollama())
    with world.polled(1, 0.7):
        wait_until(lambda: len(world.came(Cycle)) >= 4)
    cycles = world.came(Cycle)
    first = cycles[0].started_at
    assert cycles[3].started_at - first < 5  # 3 s, or 5.1 s if each began 1 s after the end of the one before
    for cycle in cycles[:4]:
        assert cycle.ended_at - cycle.started_at >= 0.6
        assert (cycle.interval_s, cycle.timeout_s) == (1, 0.7)


def test_a_cycle_tells_of_the_machines_then_of_each_result_and_then_that_it_ended(
    world: World, fakes: FakeFleet
) -> None:
    world.declare("one", fakes.ollama("m"))
    with world.polled(300, 5):
        wait_until(lambda: world.came(Cycle))
    registry, result, sample, cycle = world.items
    assert isinstance(registry, Registry)
    assert [machine.name for machine in registry] == ["one"]
    assert isinstance(result, PollResult)
    assert (result.machine, result.endpoint.kind, result.state) == ("one", "ollama", State.OK)
    assert isinstance(sample, Sample)
    assert isinstance(cycle, Cycle)
    assert cycle.started_at <= result.at <= cycle.ended_at


def test_an_unchanged_registry_is_told_only_once(world: World, fakes: FakeFleet) -> None:
    world.declare("one", fakes.ollama())
    with world.polled(0.5, 0.3):
        wait_until(lambda: len(world.came(Cycle)) >= 3)
    assert len(world.came(Registry)) == 1


def test_a_fleet_without_machines_has_cycles_too(world: World) -> None:
    with world.polled(300, 5):
        wait_until(lambda: world.came(Cycle))
    assert world.came(Sample) == []


def test_a_new_machine_is_polled_at_once_and_not_at_the_next_cycle(world: World, fakes: FakeFleet) -> None:
    old, new = fakes.ollama("m"), fakes.ollama("m")
    world.declare("old", old)
    with world.polled(600, 5):
        wait_until(lambda: world.came(Cycle))
        world.declare("new", new)
        wait_until(lambda: [sample for sample in world.came(Sample) if sample.machine == "new"])
        assert len(world.came(Registry)) == 2
        assert old.asked("/api/ps") == 1
        assert new.asked("/api/ps") == 1
        assert len(world.came(Cycle)) == 1
        wait_until(lambda: new.open_connections == 0)  # cycles have connections of their own


def test_a_machine_at_a_new_address_is_polled_at_once(world: World, fakes: FakeFleet) -> None:
    old, new = fakes.ollama("m"), fakes.ollama("m")
    world.declare("one", old)
    with world.polled(600, 5):
        wait_until(lambda: world.came(Cycle))
        world.declare("one", new)
        wait_until(lambda: new.requests)
        assert old.asked("/api/ps") == 1


def test_a_removed_machine_is_polled_no_more(world: World, fakes: FakeFleet) -> None:
    gone, stays = fakes.ollama(), fakes.ollama()
    world.declare("gone", gone)
    world.declare("stays", stays)
    with world.polled(0.5, 0.3):
        wait_until(lambda: gone.requests and stays.requests)
        (world.folder / "gone").unlink()
        wait_until(lambda: len(world.came(Registry)) == 2)
        known = len(world.items)
        wait_until(lambda: len([item for item in world.items[known:] if isinstance(item, Cycle)]) >= 3)
    last = [item for item in world.items if isinstance(item, PollResult)][-2:]
    assert {result.machine for result in last} == {"stays"}
    wait_until(lambda: gone.open_connections == 0)


def test_machines_are_polled_while_files_are_being_read(world: World, fakes: FakeFleet) -> None:
    known, new = fakes.ollama("m"), fakes.ollama("m")
    world.declare("known", known)
    with world.polled(0.5, 0.4):
        wait_until(lambda: world.came(Cycle))
        with world.reading.closed():
            wait_until(lambda: world.reading.waiting)
            world.declare("new", new)
            before = len(world.came(Cycle))
            wait_until(lambda: len(world.came(Cycle)) >= before + 3)
            assert len(world.came(Registry)) == 1
        wait_until(lambda: new.requests)
    assert known.asked("/api/ps") >= 4
    assert min(world.pauses_s[1:]) >= READ_PAUSE_S  # none before the first reading, which nobody waits beside
    at = float("-inf")
    for item in world.items:
        if isinstance(item, Registry):
            assert item.loaded_at >= at
        elif isinstance(item, PollResult):
            at = max(at, item.at)


def test_stop_ends_it_even_while_reading_a_file_hangs(world: World, fakes: FakeFleet) -> None:
    world.declare("known", fakes.ollama("m"))
    with ExitStack() as stack:
        with world.polled(0.5, 0.4):
            wait_until(lambda: world.came(Cycle))
            stack.enter_context(world.reading.closed())
            wait_until(lambda: world.reading.waiting)
        assert world.closed == 1
        assert PollerLock(world.lock).leader() is None


@pytest.mark.slow
def test_reading_that_takes_long_is_reported_until_it_has_ended(world: World, fakes: FakeFleet) -> None:
    def faults() -> str:
        leader = PollerLock(world.lock).leader()
        return str(leader and leader.faults)

    world.declare("one", fakes.ollama("m"))
    with world.polled(0.5, 0.4):
        wait_until(lambda: world.came(Cycle))
        with world.reading.closed():
            wait_until(lambda: "reading the machine files takes over 10 s" in faults())
        wait_until(lambda: faults() == "{}")


def test_polling_begins_when_files_have_been_read(world: World, fakes: FakeFleet) -> None:
    world.declare("one", fakes.ollama("m"))
    with ExitStack() as stack:
        with world.reading.closed():
            stack.enter_context(world.polled(0.5, 0.4))
            wait_until(lambda: world.reading.waiting)
            assert PollerLock(world.lock).leader() is None
        wait_until(lambda: world.came(Cycle))
    first, *_ = world.came(Registry)
    assert [machine.name for machine in first] == ["one"]


def test_polling_goes_on_after_a_change_of_the_leader_while_reading_hangs(
    world: World, fakes: FakeFleet
) -> None:
    world.declare("one", fakes.ollama("m"))
    with world.polled(0.5, 0.4):
        wait_until(lambda: world.came(Cycle))
        with world.reading.closed():
            wait_until(lambda: world.reading.waiting)
            world.lock.unlink()
            wait_until(lambda: world.closed == 1)
            before = len(world.came(Cycle))
            wait_until(lambda: len(world.came(Cycle)) > before)


@pytest.mark.parametrize("newcomer", [False, True])
def test_stop_ends_it_at_once_even_while_hosts_hang(
    world: World,
    fakes: FakeFleet,
    newcomer: bool,
) -> None:
    silent = fakes.listen(None)
    if not newcomer:
        world.declare("silent", silent)
    with world.polled(600, 40) as stop:
        if newcomer:
            wait_until(lambda: world.came(Cycle))
            world.declare("silent", silent)
        wait_until(lambda: silent.asked_at)
        assert world.closed == 0
        stop.set()
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 20
    assert world.closed == 1
    assert world.came(PollResult) == []
    assert len(world.came(Cycle)) == int(newcomer)
    assert PollerLock(world.lock).leader() is None
    wait_until(lambda: silent.open_connections == 0)


def test_an_answer_out_of_turn_is_compared_with_that_of_the_cycle(world: World, fakes: FakeFleet) -> None:
    async def answer_at_work(writer: StreamWriter) -> None:
        leaves_at = datetime.now(UTC) + timedelta(seconds=300)
        writer.write(http(ollama_body("m", expires_at=leaves_at.isoformat())))
        await writer.drain()

    world.declare("one", fakes.scripted(answer_at_work))
    with world.polled(600, 5):
        wait_until(lambda: world.came(Cycle))
        (first,) = world.came(PollResult)
        wait_until(lambda: time.time() - first.at > 1)
        PollerRequests(world.lock.with_name("wanted")).poll_soon(["one"])
        wait_until(lambda: len(world.came(Sample)) == 2)
    answers = [result.answer for result in world.came(PollResult) if result.answer]
    working = [model.is_working for answer in answers for model in answer.models or ()]
    assert working == [False, True]
