"""What fails in one cycle spoils neither the next nor the other machines."""

import time

from machines_server.core.sample import Cycle, Library, PollResult, Sample, State
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from tests.bodies import http, tags_body
from tests.fakes import FakeFleet, wait_until
from tests.poll.world import Item, World
from tests.scripts import OK, say


def test_what_we_could_not_ask_is_told_in_the_lock_and_not_to_the_sink(
    world: World, fakes: FakeFleet
) -> None:
    world.declare("quick", fakes.ollama())
    world.declare("silent", fakes.listen(None))

    def stall(item: Item) -> None:
        if isinstance(item, Sample) and len(world.came(Cycle)) == 0:
            time.sleep(2.4)

    world.on_put = stall
    with world.polled(4, 1):
        wait_until(lambda: (found := PollerLock(world.lock).leader()) and "poll" in found.faults)
        assert [result.machine for result in world.came(PollResult)] == ["quick"]
        assert len(world.came(Cycle)) == 1
        wait_until(lambda: (found := PollerLock(world.lock).leader()) and not found.faults)
    assert State.BUSY in {result.state for result in world.came(PollResult)}


def test_a_fault_of_the_sink_stands_in_the_lock_until_it_is_mended(world: World) -> None:
    with world.polled(300, 5):
        wait_until(lambda: world.came(Cycle))
        world.on_fault("the disk is full")
        world.on_fault("the disk is full")
        found = PollerLock(world.lock).leader()
        assert found is not None
        assert found.faults == {"store": "the disk is full"}
        world.on_fault(None)
        world.on_fault(None)
        found = PollerLock(world.lock).leader()
        assert found is not None
        assert found.faults == {}


def test_a_cycle_that_fails_does_not_spoil_the_next(world: World, fakes: FakeFleet) -> None:
    world.declare("one", fakes.ollama())
    world.declare("silent", fakes.listen(None))
    failed: list[Item] = []

    def fail_once(item: Item) -> None:
        if isinstance(item, PollResult) and not failed:
            failed.append(item)
            raise OSError("once")

    world.on_put = fail_once
    with world.polled(0.6, 0.4):
        wait_until(lambda: len(world.came(Cycle)) >= 2)
    assert failed
    assert {result.machine for result in world.came(PollResult)[1:]} == {"one", "silent"}


def test_a_host_that_sends_bytes_that_are_no_text_ends_no_cycle(world: World, fakes: FakeFleet) -> None:
    bad = fakes.scripted(say(OK + b"Transfer-Encoding: a\xffb\r\n\r\n"))
    world.declare("bad", bad)
    good = fakes.ollama("m")
    good.answers["/api/tags"] = http(tags_body(("m", "d", 1)))
    world.declare("one", good)
    with world.polled(1.2, 1.1):
        wait_until(lambda: len(world.came(Cycle)) >= 3)
        wait_until(lambda: world.came(Library))
        found = PollerLock(world.lock).leader()
    assert {one.state for one in world.came(PollResult) if one.machine == "one"} == {State.OK}
    assert {one.state for one in world.came(PollResult) if one.machine == "bad"} == {State.ERROR}
    assert found is not None
    assert found.faults == {}


def test_a_new_machine_whose_poll_fails_leaves_the_others_polled(world: World, fakes: FakeFleet) -> None:
    world.declare("one", fakes.ollama("m"))
    failed: list[Item] = []

    def fail(item: Item) -> None:
        if isinstance(item, PollResult) and item.machine == "new" and not failed:
            failed.append(item)
            raise ZeroDivisionError("nobody foresaw it")

    world.on_put = fail
    with world.polled(5, 0.4):
        wait_until(lambda: world.came(Cycle))
        since = PollerLock(world.lock).leader()
        world.declare("new", fakes.ollama("m"))
        wait_until(lambda: failed)
        wait_until(lambda: len(world.came(Cycle)) >= 2)
        assert PollerLock(world.lock).leader() == since
    assert world.closed == 1
