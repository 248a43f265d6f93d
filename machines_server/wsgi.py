"""The composition root: settings to parts, parts to an application and a poller."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cache

from flask import Flask

from machines_server.config import Settings, load_settings
from machines_server.core.registry import Problem, Registry
from machines_server.core.status import too_old_after_s
from machines_server.history import History
from machines_server.parse_aside import Aside
from machines_server.poll.schedule import Poller, Timing
from machines_server.poller_lock import PollerLock
from machines_server.registry_files import RegistryFiles
from machines_server.routing import Routing
from machines_server.service import Service
from machines_server.store.history import HistoryReader
from machines_server.store.latest import LatestReader
from machines_server.store.leases import LeaseBook
from machines_server.store.rollups import Retention
from machines_server.store.writer import WriterThread
from machines_server.web.app import create_app

log = logging.getLogger(__name__)


def make_service(settings: Settings) -> Service:
    """What answers questions; nothing is opened before the first."""
    store = LatestReader(settings.telemetry_db)
    files = RegistryFiles(settings.dir, recall=store.last_good, recall_first=True, parse=_aside().parse)
    return Service(
        registry=files.current,
        recent=files.recent,
        store=store,
        config_dir=settings.dir,
        poller_lock=settings.poller_lock,
        interval_s=settings.poll_interval_s,
        timeout_s=settings.poll_timeout_s,
    )


def make_poller(
    settings: Settings, leading: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Poller:
    """What polls, whenever no other process does; it is also the one that logs what is wrong in files."""
    store = LatestReader(settings.telemetry_db)
    max_gap_s = too_old_after_s(settings.poll_interval_s, settings.poll_timeout_s)

    return Poller(
        timing=Timing(settings.poll_interval_s, settings.poll_timeout_s),
        registry=RegistryFiles(
            settings.dir, recall=store.last_good, on_problem=_log_problem, parse=_aside().parse
        ).current,
        lock=PollerLock(settings.poller_lock, settings.dir),
        open_sink=lambda on_fault: WriterThread(
            settings.telemetry_db, max_gap_s=max_gap_s, retention=_retention(settings), on_fault=on_fault
        ),
        leading=leading,
    )


def make_history(settings: Settings, registry: Callable[[float], Registry]) -> History:
    """What answers questions about the past."""
    return History(HistoryReader(settings.telemetry_db), registry, _retention(settings))


def make_app(settings: Settings | None = None) -> Flask:
    """The application that gunicorn runs."""
    settings = settings or load_settings()[0]
    service = make_service(settings)
    routing = Routing(service.fleet, service.recent_fleet, LeaseBook(settings.coordination_db))
    return create_app(service, make_history(settings, service.registry), routing)


def read_files(settings: Settings) -> None:
    """Read the machine files, so that the processes that are forked from this one need not."""
    with closing(RegistryFiles(settings.dir, parse=_aside().parse_at_once)) as files:
        files.current(0.0)


@cache
def _aside() -> Aside:
    """One for a process: it polls and answers by the same files."""
    return Aside()


def _retention(settings: Settings) -> Retention:
    return Retention(
        raw_s=settings.retention_raw.total_seconds(),
        minute_s=settings.retention_1m.total_seconds(),
        hour_s=settings.retention_1h.total_seconds(),
    )


def _log_problem(problem: Problem) -> None:
    log.log(logging.ERROR if problem.severity == "error" else logging.WARNING, "machine file %s", problem)
