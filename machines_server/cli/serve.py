"""The commands that run until they are stopped: serve, poll."""

import logging.config
import os
import signal
import socket
import sys
import threading

from machines_server.cli.command import command
from machines_server.cli.installation import settings_for_writing
from machines_server.cli.output import echo
from machines_server.cli.shared_database import check_packages, migrate_shared
from machines_server.errors import (
    DamagedStoreError,
    LockedError,
    SettingsError,
    StoreError,
    UnreachableStoreError,
)
from machines_server.process.exposure import warnings_here
from machines_server.process.logs import log_config
from machines_server.process.memory import collect_rarely, use_one_arena
from machines_server.process.own_key import own_signing
from machines_server.settings import Settings
from machines_server.store.sqlite.damage import put_aside
from machines_server.store.sqlite.failures import is_temporary
from machines_server.store.sqlite.migrate import migrate
from tls_files import TlsFiles, TlsFilesError

log = logging.getLogger(__name__)


@command(
    "serve",
    examples=[
        ("machines-server serve", "Run the server with the machine files in machines/"),
        ("MACHINES_PORT=8080 MACHINES_DIR=/etc/machines machines-server serve", "Run it with other settings"),
    ],
)
def serve() -> None:
    """Run the server, which also polls the machines unless MACHINES_POLLER=off.

    Settings are environment variables; `machines-server doctor` checks them.
    """
    settings = _prepare(listens=True)
    scheme = "https" if settings.tls_cert else "http"
    echo(f"machines-server: {scheme}://{_shown_address(settings)}/", err=True)
    _run_gunicorn()


@command(
    "poll",
    examples=[("machines-server poll", "Poll for a server that runs with MACHINES_POLLER=off")],
)
def poll() -> None:
    """Run only the poller, for a server that runs with MACHINES_POLLER=off.

    It needs the same settings as the server.
    """
    from machines_server.process.compose import make_poller  # it imports the whole server

    settings = _prepare(listens=False)
    use_one_arena()
    collect_rarely()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    make_poller(settings).run(stop)


def _run_gunicorn() -> None:
    """Become gunicorn, which re-executes itself with these arguments on SIGUSR2."""
    from gunicorn import __main__ as program
    from gunicorn.app.wsgiapp import run

    sys.argv[:] = [program.__file__, "--config", "python:machines_server.process.gunicorn_conf"]
    run(prog="gunicorn")


def _prepare(*, listens: bool) -> Settings:
    """Read the settings, set up the log, log warnings, and migrate the database.

    A database that cannot be written now may be writable later, and the poller tries again.
    """
    settings = settings_for_writing()
    if settings.is_cluster:
        check_packages()
    own_signing()  # a key that cannot be used stops the start
    if listens:
        _check_certificate(settings)
        _check_address(settings)
    logging.config.dictConfig(log_config(settings.log_level, settings.log_format))
    for warning in warnings_here(settings, listens=listens):
        log.warning("%s", warning)
    try:
        applied = migrate_shared(settings) if settings.is_cluster else _migrate_or_replace(settings)
        for name in applied:
            log.info("applied %s", name)
    except DamagedStoreError as error:
        raise StoreError(f"{error}; {error.remedy}") from error
    except (LockedError, UnreachableStoreError) as error:
        _log_retry(error)
    except StoreError as error:
        if not is_temporary(error):
            raise
        _log_retry(error)
    return settings


def _log_retry(error: StoreError) -> None:
    log.error("%s; retrying, and until then all machines are unknown", error)


def _migrate_or_replace(settings: Settings) -> list[str]:
    """Migrate the database or, if MACHINES_ON_DAMAGE says so, replace a damaged one."""
    try:
        return migrate(settings.telemetry_db)
    except DamagedStoreError as error:
        if settings.on_damage != "new":
            raise
        aside = put_aside(settings.telemetry_db)
        log.error("%s; it is kept as %s, and a new one is created", error, aside.name)
        return migrate(settings.telemetry_db)


def _check_certificate(settings: Settings) -> None:
    """Raise SettingsError if HTTPS cannot be served as the settings say."""
    if settings.tls_cert and settings.tls_key:
        try:
            TlsFiles(settings.tls_cert, settings.tls_key, log.error)
        except TlsFilesError as error:
            raise SettingsError(f"MACHINES_TLS_CERT, MACHINES_TLS_KEY: {error}") from None


def _check_address(settings: Settings) -> None:
    """Raise SettingsError if the server cannot listen, since gunicorn's own error is long."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        where = f"MACHINES_HOST={settings.host}, MACHINES_PORT={settings.port}"
        raise SettingsError(f"{where}: cannot listen there: {_reason(error)}; choose another") from None


def _reason(error: OSError | UnicodeError) -> str:
    """The system's words, without the address that Python adds to them."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error)


def _shown_address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  only shown
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
