"""Agents that take leases of memory, and note what they were promised and for how long."""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import NamedTuple

from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.core.sample import GIB
from machines_server.core.state import MachineState
from machines_server.errors import MachinesError, NoMachineError, StoreError
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.leases import PostgresLeases
from machines_server.store.postgres.listener import Listener
from machines_server.store.values import LeaseRequest
from tests.core.routing.fleets import a_fleet, a_live, a_model
from tests.store.booking import First

FREE_GB = 20
AGENTS = 3
"""In each process."""
Note = Callable[[str], object]


def few_machines(count: int = 3) -> Fleet:
    """Machines with one GPU each, but that the last two have the same one."""
    *states, same = (
        a_live(name, [FREE_GB], [a_model()], hostname=f"{name}.test")
        for name in (*(f"m{number}" for number in range(count)), "same")
    )
    return a_fleet(*states, replace_gpu_of(same, states[-1]))


def replace_gpu_of(state: MachineState, other: MachineState) -> MachineState:
    """A machine whose host has the GPUs of another one."""
    assert state.host is not None
    assert other.host is not None
    return replace(state, host=replace(state.host, gpu=other.host.gpu))


class Promise(NamedTuple):
    """Memory of a GPU that an agent was promised, surely from one moment to another (monotonic)."""

    lease: str
    gpu: str
    size_bytes: int
    from_s: float
    until_s: float


def leases_at(url: str, opened: ExitStack) -> PostgresLeases:
    """The leases as another server has them."""
    database = opened.enter_context(closing(Database(url)))
    listener = opened.enter_context(closing(Listener(database)))
    return PostgresLeases(database, "here", listener, opened.enter_context(closing(Background(database))))


class Agent:
    """Takes, renews and releases leases at random; writes its promises as lines of a file."""

    def __init__(self, leases: PostgresLeases, fleet: Fleet, notes: Path, seed: int) -> None:
        self._leases, self._fleet, self._notes = leases, fleet, notes
        self._random = random.Random(seed)
        self._held: list[tuple[Lease, float, float]] = []
        self.granted = self.failed = 0

    def work(self, until: float, stop: Event | None = None) -> None:
        """Work until then (monotonic) or until it is told to stop; its leases end by themselves."""
        with self._notes.open("a", buffering=1) as notes:
            while time.monotonic() < until and not (stop and stop.is_set()):
                with suppress(NoMachineError):
                    try:
                        self._one(notes.write)
                    except StoreError:
                        self.failed += 1
                        time.sleep(0.05)

    def _one(self, note: Note) -> None:
        choice = self._random.random()
        if self._held and choice < 0.35:
            lease, began, until = self._held.pop(self._random.randrange(len(self._held)))
            self._note(note, lease, began, min(until, time.monotonic()), "released")
            with suppress(MachinesError):
                self._leases.release(self._fleet, lease.id)
        elif self._held and choice < 0.5:
            place = self._random.randrange(len(self._held))
            lease, began, until = self._held[place]
            sent = time.monotonic()
            with suppress(MachinesError):
                renewed = self._leases.renew(self._fleet, lease.id, None, lambda _: None)
                self._held[place] = renewed, began, sent + renewed.ttl_s
                self._note(note, renewed, began, sent + renewed.ttl_s)
        else:
            size_gb, ttl_s = self._random.choice([1, 2, 5, 8]), self._random.choice([0.5, 2, 60])
            sent = time.monotonic()
            chooser = First(self._fleet, min_free_vram_gb=size_gb)
            lease = self._leases.reserve(self._fleet, LeaseRequest("agent", ttl_s), chooser)
            self.granted += 1
            self._held.append((lease, time.monotonic(), sent + ttl_s))
            self._note(note, *self._held[-1])

    def _note(self, note: Note, lease: Lease, from_s: float, until_s: float, how: str = "held") -> None:
        (share,) = lease.shares
        note(f"{lease.id} {share.of} {share.size_bytes} {from_s} {until_s} {how}\n")


def work(url: str, folder: Path, seed: int, until: float) -> None:
    """Work as a server with some agents."""
    with ExitStack() as opened:
        leases, fleet = leases_at(url, opened), few_machines()
        agents = [
            Agent(leases, fleet, folder / f"{seed}-{number}", 100 * seed + number) for number in range(AGENTS)
        ]
        with ThreadPoolExecutor(AGENTS) as threads:
            list(threads.map(Agent.work, agents, [until] * AGENTS))


def promises_in(notes: Iterable[Path], until: float) -> Iterator[Promise]:
    """The last note of each lease, as promises until the end of the test at most."""
    last: dict[str, Promise] = {}
    for path in notes:
        for line in path.read_text().splitlines():
            lease, gpu, size_bytes, from_s, until_s, how = line.split()
            before = last.get(lease)
            ends = (
                float(until_s) if how == "released" else max(float(until_s), before.until_s if before else 0)
            )
            last[lease] = Promise(lease, gpu, int(size_bytes), float(from_s), min(ends, until))
    yield from last.values()


def most_promised(promises: Iterable[Promise]) -> dict[str, float]:
    """The GiB of each GPU that were promised at one moment, at most."""
    changes = [
        change
        for one in promises
        if one.from_s < one.until_s
        for change in ((one.from_s, one.gpu, one.size_bytes), (one.until_s, one.gpu, -one.size_bytes))
    ]
    now, most = dict[str, int](), dict[str, int]()
    for _, gpu, size_bytes in sorted(changes, key=lambda change: (change[0], change[2])):
        now[gpu] = now.get(gpu, 0) + size_bytes
        most[gpu] = max(most.get(gpu, 0), now[gpu])
    return {gpu: size_bytes / GIB for gpu, size_bytes in most.items()}
