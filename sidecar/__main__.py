"""`python -m sidecar` or `machines-sidecar`: puts the parts together and runs until it is stopped."""

import errno
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType

from host_facts.host import Host
from sidecar import __version__
from sidecar.app import App
from sidecar.authentication import Authentication, MissingLibraryError
from sidecar.exposure import warnings
from sidecar.gpu_watch import GpuWatch
from sidecar.hosts import HostRule
from sidecar.logs import start_log
from sidecar.sampler import Sampler
from sidecar.server import Server, listen
from sidecar.settings import PREFIX, BadSettingError, Settings, read_settings, unknown_variables
from tls_files import TlsFiles, TlsFilesError

SETTINGS = ", ".join(f"{PREFIX}{field.upper()}" for field in Settings.__slots__)

log = logging.getLogger(__name__)


def main() -> int:
    """Run the sidecar; exit status 0 when stopped, 1 when a thread died, 2 for an invalid setting."""
    if len(sys.argv) > 1:
        sys.stderr.write(f"machines-sidecar {__version__} takes no arguments, only settings: {SETTINGS}\n")
        return 0 if sys.argv[1:] in (["--help"], ["--version"]) else 2
    try:
        settings = read_settings(os.environ)
    except BadSettingError as error:
        sys.stderr.write(f"machines-sidecar: {error}\n")
        return 2
    start_log()
    authentication: Authentication | None = None
    tls: TlsFiles | None = None
    if settings.tls_cert and settings.tls_key:
        try:
            tls = TlsFiles(
                Path(settings.tls_cert), Path(settings.tls_key), lambda fault: log.error("%s", fault)
            )
        except TlsFilesError as error:
            sys.stderr.write(f"machines-sidecar: {error}\n")
            return 2
    if settings.auth_mode != "off":
        try:
            authentication = Authentication(settings)
        except MissingLibraryError as error:
            sys.stderr.write(f"machines-sidecar: {error}\n")
            return 2
    for name in unknown_variables(os.environ):
        log.warning("%s is not a setting of the sidecar and has no effect", name)
    try:
        listening = listen(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        sys.stderr.write(f"machines-sidecar: {_cannot_listen(settings, error)}\n")
        return 2
    return _run(settings, listening, authentication, tls)


def _run(
    settings: Settings, listening: socket.socket, authentication: Authentication | None, tls: TlsFiles | None
) -> int:
    gpus = GpuWatch(settings.sample_interval_s)
    sampler = Sampler(Host(), gpus, settings.sample_interval_s)
    hosts = HostRule(settings.allowed_hosts)
    server = Server(listening, App(sampler, hosts, authentication), tls=tls)
    address, port = listening.getsockname()[:2]
    scheme = "https" if tls else "http"
    shown = f"[{address}]" if ":" in address else address

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    died: list[str | None] = []

    def stop_after_failure(death: threading.ExceptHookArgs) -> None:
        name = death.thread.name if death.thread else None
        died.append(name)
        log.critical(
            "the thread %s died (%s): the sidecar exits, so that it can be restarted", name, _place(death)
        )
        server.stop()

    threading.excepthook = stop_after_failure
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        hosts.learn_own_name()
        gpus.start()
        sampler.start()
        log.info("machines-sidecar %s listens on %s://%s:%d/metrics", __version__, scheme, shown, port)
        for warning in warnings(address, is_root=_is_root(), is_guarded=settings.auth_mode == "enforce"):
            log.warning("%s", warning)
        server.run()
    finally:
        gpus.stop()
        sampler.stop()
        server.close()
    return 1 if died else 0


def _place(death: threading.ExceptHookArgs) -> str:
    """The exception and where it was raised, in one line."""
    frame = traceback.extract_tb(death.exc_traceback)[-1:]
    where = "".join(f" at {one.filename}:{one.lineno}" for one in frame)
    return f"{death.exc_type.__name__}: {death.exc_value}{where}"


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _cannot_listen(settings: Settings, error: OSError | UnicodeError) -> str:
    where = f"port {settings.port} of {settings.host}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{where} is in use: stop what listens there, or set {PREFIX}PORT to another port"
    reason = getattr(error, "strerror", None) or error
    return f"cannot listen on {where}: {reason}; see {PREFIX}HOST and {PREFIX}PORT"


if __name__ == "__main__":
    sys.exit(main())
