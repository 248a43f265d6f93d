"""gunicorn's settings, derived from ours: several workers that answer, and one that polls."""

import logging
import threading
from typing import Any

from gunicorn.glogging import Logger

from machines_server.counts.counts import Counts, shared_counts
from machines_server.poll.schedule import allow_many_sockets
from machines_server.process.compose import make_asgi, make_poller, read_files
from machines_server.process.gunicorn_worker import Worker, end_new_workers_at_once
from machines_server.process.logs import log_config, log_uncaught
from machines_server.process.memory import collect_rarely, use_one_arena
from machines_server.settings import load_settings
from machines_server.web.connections import AddressCounts, Connections
from machines_server.web.messages import Application
from tls_files import TlsFiles

_MAX_WORKERS = 256
"""Rows for workers, old and new ones during a reload."""

_log = logging.getLogger(__name__)

_settings, _ = load_settings()
_counts = AddressCounts(_MAX_WORKERS)
_shared = shared_counts(_MAX_WORKERS)
_row = 0
"""The row of this worker in both."""

bind = (
    f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
)
workers = _settings.workers + (_settings.poller == "auto")
worker_class = Worker
wsgi_app = f"{__name__}:make_application()"
keepalive = 75
graceful_timeout = 5
asgi_lifespan = "off"
forwarded_allow_ips = ""  # TrustedProxies reads forwarded headers
control_socket_disable = True  # gunicorn opens one by default
logconfig_dict = log_config(_settings.log_level, _settings.log_format)


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Writes no access log, which would take an eighth of the time of an answer."""

    access_log_enabled = False


logger_class = QuietLogger


def make_application() -> Application:
    """Create the application of a worker that answers, after the fork."""
    answering = make_asgi(_settings, Counts(_shared, _row))
    Worker.answer_all = staticmethod(answering.room.end)
    return answering.application


def _make_connections(row: int, limit: int) -> Connections:
    return Connections(_counts, row, limit, _settings.max_connections_per_address, _settings.trusted_proxies)


def _make_tls() -> TlsFiles | None:
    if _settings.tls_cert is None or _settings.tls_key is None:
        return None
    return TlsFiles(_settings.tls_cert, _settings.tls_key, _log.error)


def _run_poller(stop: threading.Event) -> None:
    make_poller(_settings).run(stop)


Worker.make_connections = staticmethod(_make_connections)
Worker.make_tls = staticmethod(_make_tls)
Worker.run_poller = staticmethod(_run_poller)
_reloads = 0


def on_starting(server: Any) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Set up what the workers inherit, before the fork."""
    log_uncaught()
    end_new_workers_at_once()
    use_one_arena()
    allow_many_sockets()


def when_ready(server: Any) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Read the machine files for all workers before the fork; the port is open, so clients wait."""
    read_files(_settings)


def on_reload(server: Any) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Record that workers created from now on replace all current ones."""
    global _reloads
    _reloads += 1


def pre_fork(server: Any, worker: Worker) -> None:
    """Decide in the main process, which knows all workers, what a new one does."""
    others = server.WORKERS.values()
    worker.reload = _reloads
    worker.polls = _settings.poller == "auto" and not any(
        other.polls and other.reload == _reloads for other in others
    )
    worker.row = min(set(range(_MAX_WORKERS)) - {other.row for other in others})


def post_fork(server: Any, worker: Worker) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Note the row of this worker."""
    global _row
    _row = worker.row


def child_exit(server: Any, worker: Worker) -> None:
    """Clear the counts of an ended worker; replace one that polled even if there are enough workers."""
    _counts.clear(worker.row)
    is_current = worker.polls and worker.reload == _reloads
    if is_current and server.LISTENERS and len(server.WORKERS) >= server.num_workers:
        server.spawn_worker()


def post_worker_init(worker: Worker) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Set up garbage collection after the fork."""
    collect_rarely()
