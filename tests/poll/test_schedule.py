"""When hosts are polled, and by whom: real requests, real locks, real processes."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from machines_server.core.registry import Endpoint, Machine, Registry
from machines_server.core.sample import Cycle, Library, PollResult, Sample, State, StoredModel
from machines_server.poll.schedule import Poller, Timing
from machines_server.poller_lock import PollerLock, holder
from tests.core.machines import a_machine
from tests.fakes import FakeEndpoint, FakeFleet, http, ollama_body, tags_body, wait_until

Item = Registry | PollResult | Sample | Cycle | Library
T = TypeVar("T", Registry, PollResult, Sample, Cycle, Library)


class World:
    """What a Poller is given: a folder of files, each with the port of an Ollama, and a list as its sink."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder / "machines", folder / "var" / "poller.lock"
        self.folder.mkdir()
        self.items: list[Item] = []
        self.closed = 0
        self.on_put: Callable[[Item], None] = lambda _: None
        self.on_fault: Callable[[str | None], None] = lambda _: None
        self._registry = Registry()
        self._seen: list[tuple[str, str]] = []

    def declare(self, name: str, ollama: FakeEndpoint) -> None:
        """Drop a file."""
        (self.folder / name).write_text(str(ollama.port))

    def registry(self, now: float) -> Registry:
        """A new one when a file has changed, as RegistryFiles does."""
        seen = sorted((path.name, path.read_text()) for path in self.folder.iterdir())
        if seen != self._seen:
            machines = [self._machine(name, int(port)) for name, port in seen if port]
            self._seen, self._registry = seen, Registry(tuple(machines), loaded_at=now)
        return self._registry

    def _machine(self, name: str, port: int) -> Machine:
        return a_machine(name, port=port, has_sidecar=False)

    def open_sink(self, on_fault: Callable[[str | None], None]) -> "World":
        self.on_fault = on_fault
        return self

    def put(self, item: Item) -> None:
        self.items.append(item)
        self.on_put(item)

    def close(self) -> bool:
        self.closed += 1
        return True

    def came(self, kind: type[T]) -> list[T]:
        return [item for item in self.items if isinstance(item, kind)]

    @contextmanager
    def polled(self, interval_s: float, timeout_s: float) -> Iterator[threading.Event]:
        """While a Poller runs; the event stops it."""
        poller = Poller(
            Timing(interval_s, timeout_s),
            self.registry,
            PollerLock(self.lock),
            self.open_sink,
        )
        stop = threading.Event()
        thread = threading.Thread(target=poller.run, args=[stop])
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_cycles_begin_in_a_steady_rhythm_however_long_they_last(world: World, fakes: FakeFleet) -> None:
    world.declare("slow", fakes.listen(None))
    world.declare("quick", fakes.ollama())
    with world.polled(1, 0.7):
        wait_until(lambda: len(world.came(Cycle)) >= 4, 15)
    cycles = world.came(Cycle)
    first = cycles[0].started_at
    for number, cycle in enumerate(cycles[:4]):
        assert abs(cycle.started_at - first - number) < 0.7
        assert cycle.ended_at - cycle.started_at >= 0.6
        assert (cycle.interval_s, cycle.timeout_s) == (1, 0.7)


def test_a_cycle_tells_of_the_machines_then_of_each_result_and_then_that_it_ended(
    world: World, fakes: FakeFleet
) -> None:
    world.declare("one", fakes.ollama("m"))
    with world.polled(30, 5):
        wait_until(lambda: world.came(Cycle))
    registry, result, sample, cycle = world.items
    assert isinstance(registry, Registry)
    assert [machine.name for machine in registry] == ["one"]
    assert isinstance(result, PollResult)
    assert (result.machine, result.endpoint, result.state) == ("one", Endpoint.OLLAMA, State.OK)
    assert isinstance(sample, Sample)
    assert isinstance(cycle, Cycle)
    assert cycle.started_at <= result.at <= cycle.ended_at


def test_an_unchanged_registry_is_told_only_once(world: World, fakes: FakeFleet) -> None:
    world.declare("one", fakes.ollama())
    with world.polled(0.5, 0.3):
        wait_until(lambda: len(world.came(Cycle)) >= 3, 15)
    assert len(world.came(Registry)) == 1


def test_a_fleet_without_machines_has_cycles_too(world: World) -> None:
    with world.polled(30, 5):
        wait_until(lambda: world.came(Cycle))
    assert world.came(Sample) == []


def test_a_new_machine_is_polled_at_once_and_not_at_the_next_cycle(world: World, fakes: FakeFleet) -> None:
    old, new = fakes.ollama("m"), fakes.ollama("m")
    world.declare("old", old)
    with world.polled(60, 5):
        wait_until(lambda: world.came(Cycle))
        world.declare("new", new)
        wait_until(lambda: [sample for sample in world.came(Sample) if sample.machine == "new"])
        assert len(world.came(Registry)) == 2
        assert old.asked("/api/ps") == 1
        assert new.asked("/api/ps") == 1
        assert len(world.came(Cycle)) == 1


def test_a_machine_at_a_new_address_is_polled_at_once(world: World, fakes: FakeFleet) -> None:
    old, new = fakes.ollama("m"), fakes.ollama("m")
    world.declare("one", old)
    with world.polled(60, 5):
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


@pytest.mark.parametrize("newcomer", [False, True])
def test_stop_ends_it_at_once_even_while_hosts_hang(
    world: World,
    fakes: FakeFleet,
    newcomer: bool,
) -> None:
    silent = fakes.listen(None)
    if not newcomer:
        world.declare("silent", silent)
    with world.polled(60, 40) as stop:
        if newcomer:
            wait_until(lambda: world.came(Cycle))
            world.declare("silent", silent)
        wait_until(lambda: silent.asked_at)
        assert world.closed == 0
        stop.set()
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 5
    assert world.closed == 1
    assert world.came(PollResult) == []
    assert len(world.came(Cycle)) == int(newcomer)
    assert holder(world.lock) is None
    wait_until(lambda: silent.open_connections == 0)


def test_a_poller_can_run_again_after_it_was_stopped(world: World, fakes: FakeFleet) -> None:
    world.declare("one", fakes.ollama())
    for number in (1, 2):
        with world.polled(30, 5):
            wait_until(lambda: len(world.came(Cycle)) > world.closed)
        assert world.closed == number


def test_a_new_leader_polls_at_once(world: World) -> None:
    with world.polled(60, 0.5):
        wait_until(lambda: world.came(Cycle), 15)


def test_what_we_could_not_ask_is_told_in_the_lock_and_not_to_the_sink(
    world: World, fakes: FakeFleet
) -> None:
    world.declare("quick", fakes.ollama())
    world.declare("silent", fakes.listen(None))

    def stall(item: Item) -> None:
        if isinstance(item, Sample) and len(world.came(Cycle)) == 0:
            time.sleep(1.2)

    world.on_put = stall
    with world.polled(2, 0.5):
        wait_until(lambda: (found := holder(world.lock)) and "poll" in found.faults, 15)
        assert [result.machine for result in world.came(PollResult)] == ["quick"]
        assert len(world.came(Cycle)) == 1
        wait_until(lambda: (found := holder(world.lock)) and not found.faults, 20)
    assert State.BUSY in {result.state for result in world.came(PollResult)}


def test_a_fault_of_the_sink_stands_in_the_lock_until_it_is_mended(world: World) -> None:
    with world.polled(30, 5):
        wait_until(lambda: world.came(Cycle))
        world.on_fault("the disk is full")
        world.on_fault("the disk is full")
        found = holder(world.lock)
        assert found is not None
        assert found.faults == {"store": "the disk is full"}
        world.on_fault(None)
        world.on_fault(None)
        found = holder(world.lock)
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
        wait_until(lambda: len(world.came(Cycle)) >= 2, 15)
    assert failed
    assert {result.machine for result in world.came(PollResult)[1:]} == {"one", "silent"}


def test_only_one_of_two_pollers_of_one_process_leads(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.lock = world.lock
    with world.polled(0.5, 0.3):
        wait_until(lambda: world.came(Cycle))
        with other.polled(0.5, 0.3):
            seen = len(world.came(Cycle))
            wait_until(lambda: len(world.came(Cycle)) >= seen + 3, 15)
            assert other.items == []


def test_a_poller_that_cannot_make_its_lock_waits_until_it_can(world: World) -> None:
    world.lock.parent.write_text("in the way")
    with world.polled(30, 5):
        time.sleep(0.6)  # it tries twice
        assert world.items == []
        world.lock.parent.unlink()
        wait_until(lambda: world.came(Cycle))


def test_of_two_processes_one_leads_and_the_other_takes_over_when_it_is_killed(tmp_path: Path) -> None:
    lock, interval_s = tmp_path / "poller.lock", 1.5
    output = tmp_path / "cycles"
    with output.open("ab") as cycles:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.poll.leader", str(lock), str(interval_s)], stdout=cycles
            )
            for _ in range(2)
        ]

    def cycles_of(pid: int) -> list[float]:
        lines = [line.split() for line in output.read_text().splitlines()]
        return [float(at) for process, at in lines if int(process) == pid]

    try:
        leader = wait_until(lambda: holder(lock), 20)
        assert leader is not None
        first, second = sorted(processes, key=lambda process: process.pid != leader.pid)
        assert first.pid == leader.pid
        wait_until(lambda: len(cycles_of(first.pid)) >= 2, 20)
        assert cycles_of(second.pid) == []
        first.kill()
        killed_at = time.time()
        first.wait()
        wait_until(lambda: cycles_of(second.pid), 20)
        assert cycles_of(second.pid)[0] - killed_at < interval_s
        found = holder(lock)
        assert found is not None
        assert found.pid == second.pid
        second.terminate()
        assert second.wait(20) == 0
        assert holder(lock) is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


TAGS = "/api/tags"
LLAMA = http(tags_body(("llama3.1:70b", "d1", 40)))


def test_what_is_on_disk_is_asked_once_of_those_that_answer(world: World, fakes: FakeFleet) -> None:
    there, dead = fakes.ollama("phi3:mini"), fakes.listen(http(b"", "500 No"))
    there.answers[TAGS] = http(tags_body(("phi3:mini", "d2", 2), ("llama3.1:70b", "d1", 40)))
    world.declare("there", there)
    world.declare("dead", dead)
    with world.polled(0.25, 0.2):
        (library,) = wait_until(lambda: world.came(Library))
        wait_until(lambda: len(world.came(Cycle)) >= 20, 20)
    assert (library.machine, library.url) == ("there", there.url(TAGS))
    assert library.models == (StoredModel("llama3.1:70b", "d1", 40), StoredModel("phi3:mini", "d2", 2))
    assert (there.asked(TAGS), dead.asked(TAGS)) == (1, 0)


def test_a_model_that_comes_into_memory_and_is_not_known_to_be_on_disk_is_a_reason_to_ask_again(
    world: World, fakes: FakeFleet
) -> None:
    ollama = fakes.ollama()
    ollama.answers[TAGS] = http(tags_body())
    world.declare("one", ollama)
    with world.polled(0.25, 0.2):
        wait_until(lambda: world.came(Library))
        ollama.answer, ollama.answers[TAGS] = http(ollama_body("llama3.1:70b")), LLAMA
        wait_until(lambda: len(world.came(Library)) == 2, 20)
    assert [model.model for model in world.came(Library)[1].models] == ["llama3.1:70b"]


def test_tags_that_hang_hold_up_no_cycle(world: World, fakes: FakeFleet) -> None:
    ollama = fakes.ollama()
    ollama.answers[TAGS] = None
    world.declare("one", ollama)
    with world.polled(1, 0.9):
        wait_until(lambda: ollama.asked(TAGS))
        asked = ollama.asked("/api/ps")
        wait_until(lambda: ollama.asked("/api/ps") > asked + 2)
    assert not world.came(Library)
