"""gunicorn's settings, from ours; each worker stands ready to poll, and one of them does, and little else."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gunicorn.util
from gunicorn.glogging import Logger
from gunicorn.workers import gthread

from machines_server.allocator import collect_seldom, use_one_arena
from machines_server.config import load_settings
from machines_server.logs import log_config
from machines_server.web.errors import write_json_error
from machines_server.wsgi import make_poller, read_files

SWITCH_S = 0.0005
"""How long an answer may keep the poller, which gives way at every system call, from going on: a worker that
begins to poll keeps the connections that it has."""

_settings, _ = load_settings()

bind = (
    f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
)
workers = _settings.workers
if _settings.poller == "auto":
    workers += 1  # the one that polls takes no connections
threads = _settings.threads
worker_class = "gthread"
keepalive = 75
graceful_timeout = 5
control_socket_disable = True  # from 25.1 on gunicorn opens one unless told not to
logconfig_dict = log_config(_settings.log_level, _settings.log_format)


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Makes no line for each answer, which nobody would see and which takes an eighth of its time."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Nothing."""


logger_class = QuietLogger

# What gunicorn answers by itself, to a request that is no HTTP for instance, is JSON as well.
gunicorn.util.write_error = write_json_error
# A connection that says nothing, as browsers keep some, holds a thread for so many seconds.
gthread.DEFAULT_WORKER_DATA_TIMEOUT = 0.2

_stop = threading.Event()
_poller: threading.Thread | None = None


def on_starting(server: Any) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Before the fork: the workers inherit it."""
    use_one_arena()


def when_ready(server: Any) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Before the fork, with the port open: who asks now waits, and no worker reads what all would read."""
    read_files(_settings)


def post_worker_init(worker: Any) -> None:
    """After the fork, since threads and connections do not survive one."""
    global _poller
    # Ctrl-C is for the main process, which tells us by SIGQUIT: a second signal would cut short how we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    collect_seldom()
    if _settings.poller == "auto":
        poller = make_poller(_settings, partial(_taking_no_connections, worker))
        _poller = threading.Thread(target=poller.run, args=[_stop], name="poller", daemon=True)
        _poller.start()


@contextmanager
def _taking_no_connections(worker: Any) -> Iterator[None]:
    """A worker looks before each wait for events at how many connections it may have."""
    most, usual_s = worker.worker_connections, sys.getswitchinterval()
    worker.worker_connections = 0
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        worker.worker_connections = most
        sys.setswitchinterval(usual_s)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001  gunicorn names the parameters
    """Write what is left and let another worker poll."""
    _stop.set()
    if _poller is not None:
        _poller.join(timeout=5)
