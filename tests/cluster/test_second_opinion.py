"""A poller that suddenly no longer reaches most of its machines asks another one before it says so."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from itertools import count

import pytest

from machines_server.core.machine import Registry
from machines_server.core.poller_counts import Backlog
from machines_server.core.sample import Cycle, PollResult, Sample, State
from machines_server.core.shards import shard_of
from machines_server.errors import StoreError
from machines_server.poll.second_opinion import DoubtingSink
from machines_server.store.api import Opinions
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.opinions import PostgresOpinions
from machines_server.store.values import Update
from tests.core.machines import SIDECAR, answer
from tests.fakes import wait_until
from tests.postgres import Postgres
from tests.store.polls import HOST, machine

INTERVAL_S, TIMEOUT_S = 0.5, 0.2
NAMES = ["one", "two", "three"]
TOGETHER = [name for name in map(str, range(2000)) if shard_of(name) == 1][:3]
"""Three of one shard."""
_JOIN = """
INSERT INTO poller (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)
VALUES (%s, 'lab', 'here', 1, 0, now_ms() + 3600000, '', 5, 2)"""


class Sink:
    """Keeps what is put into it."""

    def __init__(self) -> None:
        self.updates: list[Update] = []

    def put(self, item: Update) -> None:
        self.updates.append(item)

    def backlog(self) -> Backlog:
        return Backlog()

    def close(self) -> bool:
        return True

    def states(self) -> list[tuple[str, State]]:
        return [(item.machine, item.state) for item in self.updates if isinstance(item, PollResult)]

    def samples(self) -> list[str]:
        return [item.machine for item in self.updates if isinstance(item, Sample)]


class Poller:
    """One of two pollers, which reaches what it is told to reach."""

    def __init__(
        self, database: Database, name: str, machines: Sequence[str], opinions: Opinions | None = None
    ) -> None:
        with database.transaction() as connection:
            connection.execute(_JOIN, (name,))
        self.sink, self.reached, self.faults = Sink(), set[str](), list[str | None]()
        self._machines, self.may_look = machines, threading.Event()
        self.may_look.set()
        opinions = opinions or PostgresOpinions(database, "lab", lambda: name)
        self.doubting = DoubtingSink(
            self.sink, opinions, INTERVAL_S, TIMEOUT_S, self._reaches, self.faults.append
        )
        self.doubting.put(Registry(tuple(map(machine, machines))))
        self._times = count(1.0)

    def cycle(self, *up: str) -> None:
        """Poll all machines, of which these answer."""
        at = next(self._times)
        for name in self._machines:
            state = State.OK if name in up else State.UNREACHABLE
            said = answer(HOST) if name in up else None
            result = PollResult(name, SIDECAR, state, at, 0.1, None if name in up else "why", said)
            self.doubting.put(result)
            self.doubting.put(Sample(name, {"sidecar": result}))
        self.doubting.put(Cycle(at, at + 0.5, INTERVAL_S, 0.2))

    def _reaches(self, names: Collection[str]) -> Collection[str]:
        self.may_look.wait(30)
        return self.reached & set(names)


class Away:
    """No database answers; implements Opinions."""

    def ask(self, machines: Sequence[str]) -> int | None:
        raise StoreError(f"away, asked about {len(machines)}")

    def answer_to(self, question: int) -> Collection[str] | None:
        raise StoreError(f"away, asked for {question}")

    def take_questions(self) -> Sequence[tuple[int, Sequence[str]]]:
        raise StoreError("away")

    def answer(self, question: int, reached: Sequence[str]) -> None:
        raise StoreError(f"away, told {question}, {reached}")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    with closing(Database(postgres.new_database())) as opened:
        yield opened


@pytest.fixture
def join(database: Database) -> Iterator[Callable[..., Poller]]:
    pollers: list[Poller] = []

    def make(name: str, machines: Sequence[str] = NAMES, opinions: Opinions | None = None) -> Poller:
        pollers.append(Poller(database, name, machines, opinions))
        return pollers[-1]

    yield make
    for poller in pollers:
        poller.doubting.close()


def test_what_others_do_not_reach_either_is_gone(join: Callable[..., Poller]) -> None:
    asker, other = join("asker"), join("other")
    asker.cycle(*NAMES)
    asker.cycle()
    assert asker.sink.states() == [(name, State.OK) for name in NAMES]
    wait_until(lambda: len(asker.sink.states()) == 6)
    assert {state for _, state in asker.sink.states()[3:]} == {State.UNREACHABLE}
    assert sorted(asker.sink.samples()[3:]) == sorted(NAMES)
    assert (asker.faults, other.sink.states()) == ([], [])
    asker.cycle()  # it is known by now
    assert len(asker.sink.states()) == 9


def test_what_others_reach_is_not_written_and_is_a_fault_of_this_server(
    join: Callable[..., Poller],
) -> None:
    asker, other = join("asker"), join("other")
    other.reached = {"one", "two"}
    asker.cycle(*NAMES)
    asker.cycle()
    fault = wait_until(lambda: asker.faults and asker.faults[0])
    assert fault is not None
    assert "2 machines do not answer this server, but answer another one" in fault
    wait_until(lambda: len(asker.sink.states()) == 4)
    assert asker.sink.states()[3:] == [("three", State.UNREACHABLE)]


def test_without_others_nobody_is_asked(join: Callable[..., Poller]) -> None:
    alone = join("alone")
    alone.cycle(*NAMES)
    alone.cycle()
    wait_until(lambda: len(alone.sink.states()) == 6)
    assert alone.faults == []


def test_a_machine_that_answers_again_meanwhile_was_never_gone(join: Callable[..., Poller]) -> None:
    asker, other = join("asker"), join("other")
    other.may_look.clear()
    asker.cycle(*NAMES)
    asker.cycle()
    asker.cycle(*NAMES)
    other.may_look.set()
    wait_until(lambda: len(asker.sink.samples()) >= 6)
    assert asker.sink.states()[-1][1] is State.OK
    assert asker.faults == []


def test_one_of_many_is_not_in_doubt(join: Callable[..., Poller]) -> None:
    first, *others = TOGETHER
    asker, other = join("asker", TOGETHER), join("other", TOGETHER)
    other.reached = {first}
    asker.cycle(*TOGETHER)
    asker.cycle(*others)
    assert (first, State.UNREACHABLE) in asker.sink.states()
    assert asker.faults == []


def test_while_no_database_answers_little_is_held_back_and_the_doubt_ends(
    join: Callable[..., Poller],
) -> None:
    alone = join("alone", NAMES, Away())
    alone.cycle(*NAMES)
    for _ in range(1000):
        alone.cycle()
    wait_until(lambda: len(alone.sink.samples()) > len(NAMES))
    assert len(alone.sink.samples()) <= 3 * len(NAMES)


def test_a_poller_that_rests_is_not_asked(join: Callable[..., Poller], database: Database) -> None:
    asker, other = join("asker"), join("other")
    other.reached = set(NAMES)
    with database.transaction() as connection:
        connection.execute("UPDATE poller SET rests_until_ms = now_ms() + 60000 WHERE id = 'other'")
    asker.cycle(*NAMES)
    asker.cycle()
    wait_until(lambda: len(asker.sink.states()) == 2 * len(NAMES))
    assert asker.faults == []
