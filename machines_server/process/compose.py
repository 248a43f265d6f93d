"""Builds services, the application and the poller from settings.

Flask is imported only where needed, which saves some 20 MB in a process that only polls.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from machines_server.auth.observe_log import ObserveLog
from machines_server.core.machine import Problem
from machines_server.counts.columns import FORBIDDEN
from machines_server.counts.counts import Counts
from machines_server.credentials.files import AccessFiles
from machines_server.exposition.service import ExpositionService
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.parse_cache import ParseCache
from machines_server.inventory.reader import RegistryReader
from machines_server.poll.schedule import Poller, ReadRegistry, Timing
from machines_server.process.exposure import warnings_here
from machines_server.process.own_key import own_signing
from machines_server.process.stores import (
    answering_from_files,
    file_present,
    file_retention,
    polling_into_files,
)
from machines_server.process.tracing import traced
from machines_server.services.current_state import CurrentState
from machines_server.services.fleet import FleetService
from machines_server.services.health import HealthService
from machines_server.services.history import HistoryService
from machines_server.services.host import HostService
from machines_server.services.permissions import Caller, Permissions
from machines_server.services.poller import PollerMonitor
from machines_server.services.routing import Routing
from machines_server.settings import Settings
from machines_server.store.api import Present
from machines_server.store.sqlite.coordination.poller_counts_file import PollerCountsFile

if TYPE_CHECKING:
    from flask import Flask

    from machines_server.web.messages import Application
    from machines_server.web.waiting_room import WaitingRoom

log = logging.getLogger(__name__)


class Services(NamedTuple):
    """The services that answer requests; they open nothing until the first call."""

    fleet: FleetService
    health: HealthService
    host: HostService
    history: HistoryService
    routing: Routing
    exposition: ExpositionService


def make_services(settings: Settings, counts: Counts | None = None) -> Services:
    """Create the services of a process, which counts in `counts`."""
    counts = counts or Counts.alone()

    def note_leases(what: str, number: int) -> None:
        counts.add("leases", what, number)

    if settings.is_cluster:
        from machines_server.process.cluster import cluster_of, kept_elsewhere

        stores, retention = cluster_of(settings).answering(note_leases), kept_elsewhere()
    else:
        stores, retention = answering_from_files(settings, note_leases), file_retention(settings)
    present = stores.present
    files = RegistryReader(
        RegistryFiles(settings.dir, recall=present.last_good, recall_first=True, parse=_parse_cache().parse)
    )
    monitor = PollerMonitor(stores.watch, settings.dir, settings.poll_interval_s, settings.poll_timeout_s)
    current = CurrentState(files.current, files.current_nowait, files.unless_reported, present, monitor)
    access = AccessFiles(settings.credentials_dir, settings.ca_dir)
    fleet = FleetService(
        current,
        files.current,
        settings.dir,
        lambda registry: [
            *stores.own_services.problems(),
            *access.problems(registry),
            *stores.problems(registry),
        ],
        stores.own_services.current,
    )
    history = HistoryService(stores.past, files.current, retention, stores.now)

    def warnings() -> Iterator[str]:
        yield from stores.warnings()
        if settings.is_cluster and (fault := stores.leases.fault()):
            yield f"Leases cannot be changed: {fault}"

    needed = None if settings.is_cluster else stores.leases
    health = HealthService(fleet, present, monitor, history.fault, warnings_here(settings), warnings, needed)
    routing = Routing(
        fleet.fleet,
        fleet.recent_fleet,
        stores.leases,
        stores.requests.look_for,
        stores.requests.poll_soon,
        stores.advice,
        _permissions(settings, counts),
        fleet.newest_fleet,
        fleet.recent_fleet_nowait,
    )
    exposition = ExpositionService(
        fleet,
        health,
        routing,
        counts,
        PollerCountsFile(settings.poller_counts),
        stores.meter,
        settings.auth_mode,
    )
    return Services(fleet, health, HostService(), history, routing, exposition)


def make_poller(settings: Settings) -> Poller:
    """Create the poller, which polls whenever no other process does and logs problems of machine files."""
    if settings.is_cluster:
        from machines_server.process.cluster import cluster_of

        cluster = cluster_of(settings)
        stores = cluster.polling(_files(settings, cluster.present), _log_problem)
    else:
        stores = polling_into_files(settings, _files(settings, file_present(settings)), _log_problem)
    return Poller(
        timing=Timing(settings.poll_interval_s, settings.poll_timeout_s),
        registry=stores.registry,
        own_part=stores.own_part,
        election=stores.election,
        open_sink=stores.open_sink,
        requests=stores.requests,
        access=AccessFiles(settings.credentials_dir, settings.ca_dir).access,
        sign=own_signing(),
        own_services=stores.own_services,
        board=PollerCountsFile(settings.poller_counts),
        trace_cycle=stores.trace_cycle,
    )


def _files(settings: Settings, present: Present) -> ReadRegistry:
    """The registry of all machines for a process that polls."""
    return RegistryFiles(
        settings.dir, recall=present.last_good, on_problem=_log_problem, parse=_parse_cache().parse
    ).current


def make_app(settings: Settings, services: Services | None = None) -> "Flask":
    """Create the Flask application, without the layers around it."""
    from machines_server.web.app import create_app

    sessions = None
    if settings.auth_mode != "off":
        from machines_server.process.authentication import make_sessions

        sessions = make_sessions(settings)
    return create_app(*(services or make_services(settings)), threads=settings.threads, sessions=sessions)


class Answering(NamedTuple):
    """The application of a worker, and the requests that wait for an answer."""

    application: "Application"
    room: "WaitingRoom"


def make_asgi(settings: Settings, counts: Counts | None = None) -> Answering:
    """Create the ASGI application for a worker that answers, and that counts in `counts`."""
    from machines_server.web.asgi import make_stack
    from machines_server.web.counting import Counting, RouteTable, route_names
    from machines_server.web.waiting_room import WaitingRoom

    counts = counts or Counts.alone()
    services = make_services(settings, counts)
    room = WaitingRoom(lambda: (services.fleet.version(), services.routing.version()))
    own_names = {socket.gethostname().lower()}
    threading.Thread(target=lambda: own_names.add(socket.getfqdn().lower()), daemon=True).start()
    authenticated = None
    if settings.auth_mode != "off":
        from machines_server.process.authentication import authentication

        authenticated = authentication(settings, counts)
    app = make_app(settings, services)
    rules = [rule.rule for rule in app.url_map.iter_rules()]
    routes, names = RouteTable(rules), route_names(rules)
    stack = make_stack(
        app.wsgi_app,
        settings.threads,
        services.fleet.ready_nowait,
        services.fleet.ready,
        services.routing.route_nowait,
        room,
        allowed_hosts=settings.allowed_hosts,
        proxies=settings.trusted_proxies,
        own_names=own_names,
        authenticated=authenticated,
        counted=partial(Counting, counts=counts, routes=routes),
    )
    return Answering(traced(stack, lambda path: names[routes.number_of(path)]), room)


def read_files(settings: Settings) -> None:
    """Read the machine files, so that forked processes need not read them again."""
    with closing(RegistryFiles(settings.dir, parse=_parse_cache().parse)) as files:
        files.current(0.0)


@cache
def _parse_cache() -> ParseCache:
    """The cache of this process."""
    return ParseCache()


def _permissions(settings: Settings, counts: Counts) -> Permissions:
    def observe(caller: Caller) -> None:
        counts.add("auth_refusals", FORBIDDEN)
        if settings.auth_mode == "observe":
            observed.add(caller.method, caller.path, FORBIDDEN, caller.agent)

    observed = ObserveLog(settings.auth_observe_log)
    return Permissions(settings.auth_mode, settings.auth_writers, settings.auth_admins, observe)


def _log_problem(problem: Problem) -> None:
    log.log(logging.ERROR if problem.severity == "error" else logging.WARNING, "machine file %s", problem)
