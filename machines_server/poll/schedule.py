"""Decides when to poll, and in which process: one leads, the others stand by until its lock is free."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace

from machines_server.core.machine import HostService, Machine, Registry, to_poll_at_once
from machines_server.core.poller_counts import PollerCounts
from machines_server.core.sample import Cycle, PollResult
from machines_server.errors import UnsupportedError
from machines_server.failure_log import logger_of_failures
from machines_server.poll.counting import PollCounting
from machines_server.poll.cycle import AnswerReader, OwnFault, poll_all, poll_into
from machines_server.poll.disk_models import LIBRARY_CHECK_INTERVAL_S, LibraryPoller
from machines_server.poll.fetch import Fetcher
from machines_server.poll.jobs import Jobs
from machines_server.poll.out_of_turn import OutOfTurn
from machines_server.poll.targets import AccessOf, Sign, no_access
from machines_server.poll.ticker import Ticker
from machines_server.runtimes.base import Kinds
from machines_server.runtimes.kinds import KINDS
from machines_server.store.api import LeaderElection, OpenSink, PollerCountsBoard, PollerRequests, Sink

TICK_S = 0.25
"""How often a process on standby tries the lock, and the leader checks lock and clocks."""
CHECK_FILES_S = 1.0
"""How often the leader checks machine files; new machines are polled at once."""
READ_PAUSE_S = 0.001
"""A pause after each file that changed, in which polling has Python to itself. Without it a cycle for 1,000
machines beside 5,000 new files took 8 s, and with it 0.5 s; alone it takes 0.2 s."""
SLOW_READING_S = 10.0
"""If reading files takes longer, it is reported."""
WANTED_MODELS_S = 1.0
"""How often disks are checked for models that somebody asked for."""
CHECK_FIRST_READING_S = 0.02
POLL_RETRY_S = 1.0
"""How long to wait after polling has failed."""
_CLOCK_STEP_S = 1.0
"""If the wall clock moves this much against the monotonic clock, it was set."""
_JOBS = "cycle", "libraries", "new machines", "out of turn"

ReadRegistry = Callable[[float, Callable[[], object]], Registry]
"""Reads machine files at that time (epoch seconds), and calls the function after each that has changed."""
OwnPart = Callable[[Registry], Registry]
"""Returns the part of a registry that this process polls now; the same object while nothing changes."""
TraceCycle = Callable[[int], AbstractContextManager[object]]
"""Called for each cycle, with the number of machines polled in it."""

log = logger_of_failures(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between the starts of two cycles, and the deadline of one request."""

    interval_s: float
    timeout_s: float


class Poller:
    """Leads when no other process does: runs a cycle every `interval_s`, and polls new machines at once."""

    def __init__(
        self,
        timing: Timing,
        registry: ReadRegistry,
        election: LeaderElection,
        open_sink: OpenSink,
        requests: PollerRequests,
        kinds: Kinds = KINDS,
        access: AccessOf = no_access,
        sign: Sign | None = None,
        own_services: Callable[[], Iterable[HostService]] = tuple,
        board: PollerCountsBoard | None = None,
        trace_cycle: TraceCycle = nullcontext,
        own_part: OwnPart = lambda registry: registry,
    ) -> None:
        """`own_services` are those on the server's own host; `trace_cycle` gets the number of machines."""
        self._timing, self._registry, self._election, self._own_part = timing, registry, election, own_part
        self._open_sink, self._requests, self._kinds = open_sink, requests, kinds
        self._access, self._sign, self._board = access, sign, board
        self._own_services, self._trace_cycle = own_services, trace_cycle
        self._counting = PollCounting(PollerCounts())
        self._faults: dict[str, str] = {}
        self._faults_lock = threading.Lock()
        self._sink: Sink
        self._libraries, self._answers = LibraryPoller(kinds=kinds, access=access), AnswerReader(kinds)
        self._wanted_models: frozenset[str] = frozenset()
        self._declared: Registry | None = None
        """All machines, as the files were last read."""
        self._reading_since: float | None = None
        """When reading them began, by the monotonic clock; None unless they are being read."""
        self._known = Registry()
        """The machines that are polled here."""
        self._known_lock = threading.Lock()
        self._clock_set_at = float("-inf")
        self._stop = self._ending = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Stand by, lead, and end when `stop` is set."""
        has_reported = False
        threading.Thread(target=self._keep_reading, args=[stop], name="files", daemon=True).start()
        while not stop.is_set():
            if self._declared is None:  # in a cluster, shards would be lost meanwhile
                stop.wait(CHECK_FIRST_READING_S)
                continue
            try:
                leads = self._election.acquire()
            except (OSError, UnsupportedError) as error:
                if not has_reported:
                    log.error("this process cannot poll: %s", error)
                has_reported, leads = True, False
            if leads:
                try:
                    self._lead(stop)
                except Exception:
                    log.exception("polling failed; this process or another one will retry")
                    self._election.release()
                    stop.wait(POLL_RETRY_S)
                self._election.release()
                has_reported = False
            elif not has_reported:
                if fault := self._election.obstacle():
                    log.error("no process can poll: %s", fault)
                else:
                    log.info("another process polls; process %d is on standby", os.getpid())
                if folder := self._election.other_folder():
                    log.error(
                        "that process polls the machines in %s, and no process polls those of this server;"
                        " each server needs its own MACHINES_DATA_DIR",
                        folder,
                    )
                has_reported = True
            stop.wait(TICK_S)

    def _lead(self, stop: threading.Event) -> None:
        allow_many_sockets()
        self._stop, self._ending = stop, threading.Event()
        self._known, self._faults = Registry(), {}
        self._counting = PollCounting((self._board and self._board.read()) or PollerCounts())
        with ExitStack() as stack:
            self._sink = self._open_sink(lambda fault: self._note("store", fault))
            stack.callback(self._end_writing)
            fetcher = stack.enter_context(closing(Fetcher(self._timing.timeout_s, sign=self._sign)))
            soon_fetcher = stack.enter_context(closing(Fetcher(self._timing.timeout_s, sign=self._sign)))
            self._libraries = LibraryPoller(kinds=self._kinds, access=self._access)
            self._answers = AnswerReader(self._kinds)
            jobs = stack.enter_context(closing(Jobs(_JOBS)))
            stack.callback(self._ending.set)
            self._current()  # so that none counts as new
            log.info("this process polls every %g s", self._timing.interval_s)
            self._schedule(jobs, fetcher, soon_fetcher, stop)
        log.info("this process has stopped polling")

    def _end_writing(self) -> None:
        """Wait for the last write: until it or this process has ended, no other process may write."""
        while not self._sink.close() and not self._stop.is_set():
            log.error("a write to the database is slow; no process can poll until it has ended")

    def _cycle(self, fetcher: Fetcher) -> None:
        try:
            self._poll_cycle(fetcher)
        except Exception:
            log.exception("a poll cycle failed")
            self._note("poll", "the last poll cycle failed; the log says why")

    def _poll_cycle(self, fetcher: Fetcher) -> None:
        started_at, began = time.time(), time.monotonic()
        registry = self._current()
        with self._trace_cycle(len(registry)):
            faults = self._poll(registry, fetcher, self._own_services())
        if faults is None:
            return
        took_s = time.monotonic() - began
        self._sink.put(
            Cycle(started_at, started_at + took_s, self._timing.interval_s, self._timing.timeout_s)
        )
        self._counting.note_cycle(took_s)
        if self._board is not None:
            shards = None if registry.shards is None else len(registry.shards)
            self._board.write(self._counting.counts(time.time(), self._sink.backlog(), shards))
        self._note("poll", faults[0].reason if faults else None)
        # The fault is shown for a whole interval, so that a client that asks once per interval sees it.
        if began - self._clock_set_at >= self._timing.interval_s:
            self._note("clock", None)

    def _poll(
        self, machines: Iterable[Machine], fetcher: Fetcher, own_services: Iterable[HostService] = ()
    ) -> list[OwnFault] | None:
        self._answers.forget_removed(self._known)
        polled = poll_all(machines, fetcher, self._answers, self._access, own_services)
        return poll_into(self._sink, polled, self._note_result, self._is_ending)

    def _note_result(self, result: PollResult) -> None:
        self._counting.note(result)
        self._libraries.note(result)

    def _is_ending(self) -> bool:
        return self._stop.is_set() or self._ending.is_set()

    def _ask_libraries(self) -> None:
        """Request libraries in a thread of their own, so that no slow list delays a cycle."""
        try:
            wanted, self._wanted_models = self._wanted_models, frozenset()
            known, timeout_s = self._known, self._timing.timeout_s
            for library in self._libraries.poll(known, timeout_s, wanted, known.shards):
                if self._is_ending():
                    return
                if library is not None:
                    self._sink.put(library)
        except Exception:
            log.exception("polling the models on the disks of hosts failed")

    def _schedule(
        self,
        jobs: Jobs,
        fetcher: Fetcher,
        soon_fetcher: Fetcher,
        stop: threading.Event,
    ) -> None:
        """Begin work when it is due by the monotonic clock, and notice when the wall clock is set."""
        cycles = Ticker(self._timing.interval_s)
        libraries = Ticker(LIBRARY_CHECK_INTERVAL_S, self._timing.timeout_s)
        wanted_models = Ticker(WANTED_MODELS_S)
        tick_s = min(TICK_S, self._check_files_s())
        soon = OutOfTurn(), soon_fetcher
        offset = time.time() - time.monotonic()
        while not stop.wait(min(tick_s, cycles.wait_s())):
            if not self._election.is_leader():
                why = self._election.obstacle() or "the file of the poller's lock was deleted"
                log.error("%s; this process stops polling, and another one may poll", why)
                return
            by_s = time.time() - time.monotonic() - offset
            if abs(by_s) > _CLOCK_STEP_S:
                # Earlier polls have time stamps of the old time, so they say nothing about the present.
                offset += by_s
                self._clock_set_at = time.monotonic()
                self._note("clock", f"the wall clock was changed by {by_s:+.0f} s; a new cycle starts now")
                cycles.restart()
            if cycles.take():
                jobs.begin("cycle", self._cycle, fetcher)
            if libraries.take():
                jobs.begin("libraries", self._ask_libraries)
            self._begin_with_new_machines(jobs)
            if wanted_models.take() and self._libraries.has_wanted():
                jobs.begin("libraries", self._ask_libraries)
            self._serve_requests(jobs, *soon)
            self._note("files", self._slow_reading())

    def _serve_requests(self, jobs: Jobs, soon: OutOfTurn, fetcher: Fetcher) -> None:
        if not self._requests.is_empty():
            requested = self._requests.take()
            soon.add(requested.machines)
            if requested.models:
                self._wanted_models |= requested.models
                jobs.begin("libraries", self._ask_libraries)
        if not soon.is_empty():
            jobs.begin("out of turn", self._poll_soon, soon, fetcher)

    def _poll_soon(self, soon: OutOfTurn, fetcher: Fetcher) -> None:
        try:
            machines = filter(None, map(self._known.get, soon.take()))
            self._poll(machines, fetcher)
        except Exception:
            log.exception("polling machines out of turn failed")

    def _keep_reading(self, stop: threading.Event) -> None:
        """Read files that change, beside all else: many, or a share that hangs, must delay no cycle."""

        def pause() -> None:
            if self._declared is not None:
                stop.wait(READ_PAUSE_S)

        while True:
            self._reading_since = time.monotonic()
            try:
                self._declared = self._registry(time.time(), pause)
            except Exception:
                log.exception("reading machine files failed")
            self._reading_since = None
            if stop.wait(self._check_files_s()):
                return

    def _check_files_s(self) -> float:
        return min(CHECK_FILES_S, self._timing.interval_s / 10)

    def _slow_reading(self) -> str | None:
        since = self._reading_since
        if since is None or time.monotonic() - since < SLOW_READING_S:
            return None
        return f"reading the machine files takes over {SLOW_READING_S:g} s; machines are polled as before"

    def _begin_with_new_machines(self, jobs: Jobs) -> None:
        before = self._known
        try:
            registry = self._current()
        except Exception:
            log.exception("looking for new machines failed")
            return
        if registry is not before:
            machines = to_poll_at_once(before, registry)
            jobs.begin("new machines", self._poll_new_machines, machines, queued=True)

    def _poll_new_machines(self, machines: Iterable[Machine]) -> None:
        try:
            # Cycles have connections of their own to these machines, so none is kept from here.
            with closing(Fetcher(self._timing.timeout_s, sign=self._sign)) as fetcher:
                self._poll(machines, fetcher)
        except Exception:
            log.exception("polling new machines failed")

    def _current(self) -> Registry:
        """The machines to poll now; the sink gets them before any of their results."""
        with self._known_lock:
            registry = self._known if self._declared is None else self._own_part(self._declared)
            if registry is not self._known:
                self._known = registry
                # As of now: results that came while files were read are older than what changes with them.
                self._sink.put(replace(registry, loaded_at=time.time()))
            return registry

    def _note(self, source: str, fault: str | None) -> None:
        """Report a fault of this process where others can read it, even if the database cannot be written."""
        with self._faults_lock:
            if fault == self._faults.get(source):
                return
            if fault:
                self._faults[source] = fault
                log.error("%s", fault)
            else:
                del self._faults[source]
            self._election.report_faults(self._faults)


def allow_many_sockets() -> None:
    """Raise the limit on file descriptors: every kept-alive connection needs one, and 1,024 are soon used."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
