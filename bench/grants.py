"""Leases per second that several servers grant, in PostgreSQL and, for comparison, in SQLite."""

import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.table import Line, note
from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.question import Question
from machines_server.core.routing.ranking import evaluated_again, rank
from machines_server.errors import MachinesError
from machines_server.store.api import Leases
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.leases import PostgresLeases
from machines_server.store.postgres.listener import Listener
from machines_server.store.sqlite.coordination.leases import LeaseStore
from machines_server.store.values import LeaseRequest, LeaseSnapshot
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_live, a_model
from tests.postgres import Postgres, folder_of_postgres

MACHINES, PROCESSES, THREADS, LASTS_S = 200, 4, 8, 5.0
TTL_S = 1.0
"""Leases end by themselves: to release them would be measured as well."""
SPREAD_PER_S, ONE_PER_S, TIMES_SQLITE = 2000, 300, 4
_QUESTION = Question(LLAMA)


class _Chooser:
    """Chooses any machine, since ranking is the same for both; one that is chosen is checked by the rule."""

    def __init__(self, fleet: Fleet, candidates: Sequence[Candidate], seed: int) -> None:
        self._fleet, self._candidates, self._random = fleet, candidates, random.Random(seed)

    def candidates(self, _: LeaseSnapshot) -> Sequence[Candidate]:
        return [self._random.choice(self._candidates)]

    def again(self, candidate: Candidate, on_host: LeaseSnapshot) -> Candidate | None:
        found = evaluated_again(candidate, _QUESTION, self._fleet, on_host.leases, (), NOW)
        return found if isinstance(found, Candidate) else None


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Grant leases spread over all machines, then all on one."""
    lasts_s = 2.0 if quick else LASTS_S
    lines = []
    with folder_of_postgres() as data, Postgres(data / "data", fsync="on") as postgres:
        for machines, goal in ((MACHINES, SPREAD_PER_S), (1, ONE_PER_S)):
            what = f"leases granted, {PROCESSES} processes, {machines} machine{'s'[: machines > 1]}"
            note(what)
            shared = _granted_per_s("postgres", postgres.new_database(), machines, lasts_s)
            path = folder / f"{machines}.db"
            alone = _granted_per_s("sqlite", str(path), machines, lasts_s)
            is_reached = shared >= goal and shared >= TIMES_SQLITE * alone
            to_reach = f">= {goal}/s, >= {TIMES_SQLITE} x SQLite"
            lines.append(
                Line(what, f"{shared:.0f}/s", f"SQLite {alone:.0f}/s", shared / alone, to_reach, is_reached)
            )
    return lines


def _granted_per_s(store: str, where: str, machines: int, lasts_s: float) -> float:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(PROCESSES)
    counts = context.Queue()
    processes = [
        context.Process(target=_grant, args=(store, where, machines, lasts_s, seed, ready, counts))
        for seed in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    total = sum(counts.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return float(total / lasts_s)


def _grant(store: str, where: str, machines: int, lasts_s: float, seed: int, ready: Any, counts: Any) -> None:
    """Grant leases as one server, in several threads."""
    fleet = a_fleet(
        *(a_live(f"m{number}", [20], [a_model()], hostname=f"m{number}.test") for number in range(machines))
    )
    candidates = rank(_QUESTION, fleet, [], [], NOW).candidates
    leases, close = _postgres(where) if store == "postgres" else _sqlite(where)
    leases.read()
    ready.wait(60)
    until = time.monotonic() + lasts_s

    def work(thread: int) -> int:
        chooser, granted = _Chooser(fleet, candidates, 100 * seed + thread), 0
        while time.monotonic() < until:
            try:
                leases.reserve(fleet, LeaseRequest(f"{seed}-{thread}", TTL_S), chooser)
            except MachinesError as error:
                sys.stderr.write(f"{error}\n")
            else:
                granted += 1
        return granted

    with ThreadPoolExecutor(THREADS) as threads:
        counts.put(sum(threads.map(work, range(THREADS))))
    close()


def _sqlite(where: str) -> tuple[Leases, Callable[[], object]]:
    leases = LeaseStore(Path(where))
    return leases, leases.close


def _postgres(where: str) -> tuple[Leases, Callable[[], object]]:
    database = Database(where)
    listener, background = Listener(database), Background(database)

    def close() -> None:
        with closing(database), closing(background), closing(listener):
            pass

    return PostgresLeases(database, "here", listener, background), close
