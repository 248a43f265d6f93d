"""When to poll, and who: one process leads, the others stand by until its lock is free."""

import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler

from machines_server.core.registry import Machine, Registry, to_poll_at_once
from machines_server.core.sample import Cycle, Library, PollResult, Sample
from machines_server.poll.cycle import Answers, OwnFault, poll_all
from machines_server.poll.fetch import Fetcher
from machines_server.poll.libraries import LOOK_S as LIBRARY_LOOK_S
from machines_server.poll.libraries import Librarian
from machines_server.poller_lock import PollerLock

TICK_S = 0.25
"""How often a standing-by process tries the lock, and the leader looks at lock and clocks."""
LOOK_S = 1.0
"""How often the leader looks for new machines, which are polled at once."""
_STEP_S = 1.0

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where results go; `put` never waits."""

    def put(self, item: Registry | PollResult | Sample | Cycle | Library) -> None:
        """Take one item."""

    def close(self) -> bool:
        """Write what is left; whether that has ended."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between the starts of two cycles, and the deadline of one request."""

    interval_s: float
    timeout_s: float


class Poller:
    """Leads whenever nobody else does: runs cycles every `interval_s`, and polls new machines at once."""

    def __init__(
        self,
        timing: Timing,
        registry: Callable[[float], Registry],
        lock: PollerLock,
        open_sink: Callable[[Callable[[str | None], None]], Sink],
        leading: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`open_sink` is given a function that hears of the sink's faults; `leading` is entered to lead."""
        self._timing, self._registry, self._lock = timing, registry, lock
        self._open_sink, self._leading = open_sink, leading
        self._faults: dict[str, str] = {}
        self._faults_lock = threading.Lock()
        self._sink: Sink
        self._librarian = Librarian()
        self._known = Registry()
        self._known_lock = threading.Lock()
        self._clock_set_at = float("-inf")
        self._stop = self._ending = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Stand by, lead, and end when `stop` is set."""
        complained = False
        while not stop.is_set():
            try:
                leads = self._lock.acquire()
            except OSError as error:
                if not complained:
                    log.error("nobody can poll from here: %s", error)
                complained, leads = True, False
            if leads:
                try:
                    with self._leading():
                        self._lead(stop)
                except Exception:
                    log.exception("polling failed; it is tried again, here or in another process")
                    self._lock.release()
                    stop.wait(LOOK_S)
                self._lock.release()
                complained = False
            elif not complained:
                log.info("another process polls; process %d stands by", os.getpid())
                if folder := self._lock.other_folder():
                    log.error(
                        "that process polls the machines of %s, and nobody those of this server; each needs a"
                        " MACHINES_DATA_DIR of its own",
                        folder,
                    )
                complained = True
            stop.wait(TICK_S)

    def _lead(self, stop: threading.Event) -> None:
        allow_many_sockets()
        self._stop, self._ending = stop, threading.Event()
        self._known, self._faults = Registry(), {}
        with ExitStack() as stack:
            self._sink = self._open_sink(lambda fault: self._note("store", fault))
            stack.callback(self._end_writing)
            fetcher = stack.enter_context(closing(Fetcher(self._timing.timeout_s)))
            newcomers_fetcher = stack.enter_context(closing(Fetcher(self._timing.timeout_s)))
            self._librarian = Librarian()
            scheduler, job = self._schedule(fetcher, Answers())
            stack.callback(scheduler.shutdown)
            stack.callback(self._ending.set)
            log.info("this process polls, every %g s", self._timing.interval_s)
            self._watch(job, newcomers_fetcher, stop)
        log.info("this process polls no more")

    def _end_writing(self) -> None:
        """Nobody else may write while a write of ours hangs, unless this process ends, and that with it."""
        while not self._sink.close() and not self._stop.is_set():
            log.error("the database takes long to write; until it has ended nobody can poll")

    def _schedule(self, fetcher: Fetcher, answers: Answers) -> tuple[BackgroundScheduler, Job]:
        scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(1), "libraries": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        job = scheduler.add_job(
            self._cycle,
            "interval",
            args=[fetcher, answers],
            seconds=self._timing.interval_s,
            next_run_time=datetime.now(UTC),
        )
        scheduler.add_job(
            self._ask_libraries,
            "interval",
            seconds=LIBRARY_LOOK_S,
            executor="libraries",
            next_run_time=datetime.now(UTC) + timedelta(seconds=self._timing.timeout_s),
        )
        scheduler.start()
        return scheduler, job

    def _cycle(self, fetcher: Fetcher, answers: Answers) -> None:
        started_at, began = time.time(), time.monotonic()
        registry = self._current()
        faults = self._poll(registry, fetcher, answers)
        if faults is None:
            return
        ended_at = started_at + (time.monotonic() - began)
        self._sink.put(Cycle(started_at, ended_at, self._timing.interval_s, self._timing.timeout_s))
        self._note("poll", faults[0].reason if faults else None)
        # It stands for an interval, so that who looks once in each sees it.
        if began - self._clock_set_at >= self._timing.interval_s:
            self._note("clock", None)

    def _poll(
        self, machines: Iterable[Machine], fetcher: Fetcher, answers: Answers | None = None
    ) -> list[OwnFault] | None:
        """What we could not ask; None when we were told to end in the middle."""
        faults = []
        for result in poll_all(machines, fetcher, answers):
            if self._stop.is_set() or self._ending.is_set():
                return None
            if isinstance(result, OwnFault):
                faults.append(result)
            elif result is not None:
                self._sink.put(result)
            if isinstance(result, PollResult):
                self._librarian.hear(result)
        return faults

    def _ask_libraries(self) -> None:
        """Apart from the cycles, which no slow /api/tags may delay."""
        for library in self._librarian.ask(self._known, self._timing.timeout_s):
            if self._stop.is_set() or self._ending.is_set():
                return
            if library is not None:
                self._sink.put(library)

    def _watch(self, job: Job, fetcher: Fetcher, stop: threading.Event) -> None:
        """Poll new machines as their files come, and keep the rhythm when the wall clock is set."""
        offset = time.time() - time.monotonic()
        looked_at = time.monotonic()
        while not stop.wait(TICK_S):
            if not self._lock.is_held():
                log.error("the file of the poller's lock was deleted, so another process may poll")
                return
            by_s = time.time() - time.monotonic() - offset
            if abs(by_s) > _STEP_S:
                # The scheduler waits for a moment of the wall clock, which may now be hours away.
                offset += by_s
                self._clock_set_at = time.monotonic()
                self._note("clock", f"the wall clock was set by {by_s:+.0f} s; polling goes on at once")
                job.modify(next_run_time=datetime.now(UTC) + timedelta(seconds=TICK_S))
            if time.monotonic() - looked_at >= LOOK_S:
                before = self._known
                if (registry := self._current()) is not before:
                    self._poll(to_poll_at_once(before, registry), fetcher)
                looked_at = time.monotonic()

    def _current(self) -> Registry:
        """The registry now; the sink hears of it before it hears of its machines."""
        with self._known_lock:
            registry = self._registry(time.time())
            if registry is not self._known:
                self._known = registry
                self._sink.put(registry)
            return registry

    def _note(self, source: str, fault: str | None) -> None:
        """Say what is wrong with us where others can read it, even if the database cannot be written."""
        with self._faults_lock:
            if fault == self._faults.get(source):
                return
            if fault:
                self._faults[source] = fault
                log.error("%s", fault)
            else:
                del self._faults[source]
            self._lock.note(self._faults)


def allow_many_sockets() -> None:
    """Every kept-alive connection is a file descriptor, and the usual limit of 1,024 is soon reached."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
