"""The stores of a process that keeps everything in files of this host."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from machines_server.core.machine import HostService, Problem, Registry
from machines_server.core.status import too_old_after_s
from machines_server.inventory.own_services import OwnServices
from machines_server.poll.schedule import OwnPart, ReadRegistry, TraceCycle
from machines_server.process.tracing import cycle_tracing
from machines_server.settings import Settings
from machines_server.store.api import (
    AdviceBoard,
    LeaderElection,
    Leases,
    OpenSink,
    Past,
    PollerRequests,
    PollerWatch,
    Present,
    StoreMeter,
)
from machines_server.store.sqlite.coordination.leases import LeaseStore
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.coordination.poller_requests import PollerRequests as RequestsFile
from machines_server.store.sqlite.coordination.shared_advice import SharedAdvice
from machines_server.store.sqlite.meter import FileMeter
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.sqlite.telemetry.writer_thread import WriterThread
from machines_server.store.values import Retention

NoteLeases = Callable[[str, int], object]
"""Called with what happened to leases, `granted` or `expired`, and how many."""


class AnsweringStores(NamedTuple):
    """The stores of a process that answers; nothing is opened until the first call."""

    present: Present
    watch: PollerWatch
    past: Past
    leases: Leases
    requests: PollerRequests
    advice: AdviceBoard
    meter: StoreMeter
    own_services: OwnServices
    problems: Callable[[Registry], Iterable[Problem]]
    """Finds differences between servers that should be alike."""
    warnings: Callable[[], Iterable[str]]
    """Current faults of parts that most answers do not need."""
    now: Callable[[], float]
    """The clock by which the past is kept."""


class PollingStores(NamedTuple):
    """The stores of a process that polls, with the registry of all machines and its own part of them."""

    registry: ReadRegistry
    own_part: OwnPart
    election: LeaderElection
    open_sink: OpenSink
    requests: PollerRequests
    own_services: Callable[[], Iterable[HostService]]
    trace_cycle: TraceCycle


def file_present(settings: Settings) -> LatestReader:
    """The present in a file, which also knows the last good version of each machine file."""
    return LatestReader(settings.telemetry_db)


def answering_from_files(settings: Settings, note_leases: NoteLeases) -> AnsweringStores:
    """Files in the data folder."""
    return AnsweringStores(
        present=file_present(settings),
        watch=PollerLock(settings.poller_lock),
        past=PastReader(settings.telemetry_db),
        leases=LeaseStore(settings.coordination_db, note_leases),
        requests=RequestsFile(settings.poller_requests),
        advice=SharedAdvice(settings.advised),
        meter=FileMeter(settings.telemetry_db, settings.coordination_db),
        own_services=OwnServices(settings.services_yaml),
        problems=lambda _: (),
        warnings=tuple,
        now=time.time,
    )


def polling_into_files(
    settings: Settings, registry: ReadRegistry, on_problem: Callable[[Problem], None]
) -> PollingStores:
    """Files in the data folder, written by one process at a time."""
    max_gap_s = too_old_after_s(settings.poll_interval_s, settings.poll_timeout_s)
    return PollingStores(
        registry,
        lambda registry: registry,
        PollerLock(settings.poller_lock, settings.dir),
        lambda on_fault: WriterThread(
            settings.telemetry_db,
            max_gap_s=max_gap_s,
            retention=file_retention(settings),
            on_fault=on_fault,
            renews=settings.on_damage == "new",
        ),
        RequestsFile(settings.poller_requests),
        OwnServices(settings.services_yaml, on_problem).current,
        cycle_tracing(),
    )


def file_retention(settings: Settings) -> Retention:
    """How long files keep each tier."""
    return Retention(
        raw_s=settings.retention_raw.total_seconds(),
        minute_s=settings.retention_1m.total_seconds(),
        hour_s=settings.retention_1h.total_seconds(),
    )
