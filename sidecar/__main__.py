"""`python -m sidecar`, `machines-sidecar`: puts the parts together and runs until it is told to end."""

import errno
import logging
import os
import signal
import socket
import sys
from types import FrameType

from sidecar import __version__
from sidecar.gpu_watch import GpuWatch
from sidecar.host import Host
from sidecar.sampler import Sampler
from sidecar.server import App, Server, listen
from sidecar.settings import PREFIX, Settings, SettingsError, read_settings, unknown_variables

SETTINGS = "SIDECAR_HOST, SIDECAR_PORT, SIDECAR_SAMPLE_INTERVAL_S"

log = logging.getLogger(__name__)


def main() -> int:
    """Exit status: 0 when told to end, 2 for a setting that cannot be used."""
    if len(sys.argv) > 1:
        sys.stderr.write(f"machines-sidecar {__version__} takes no arguments, only settings: {SETTINGS}\n")
        return 0 if sys.argv[1:] in (["--help"], ["--version"]) else 2
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"machines-sidecar: {error}\n")
        return 2
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    for name in unknown_variables(os.environ):
        log.warning("%s is no setting of the sidecar's and has no effect", name)
    try:
        listening = listen(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        sys.stderr.write(f"machines-sidecar: {_cannot_listen(settings, error)}\n")
        return 2
    _run(settings, listening)
    return 0


def _run(settings: Settings, listening: socket.socket) -> None:
    gpus = GpuWatch(settings.sample_interval_s)
    sampler = Sampler(Host(), gpus, settings.sample_interval_s)
    server = Server(listening, App(sampler))
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
        gpus.start()
        sampler.start()
        log.info("machines-sidecar %s listens on http://%s:%d/metrics", __version__, shown, port)
        server.run()
    finally:
        gpus.stop()
        sampler.stop()
        server.close()


def _end(_number: int, _frame: FrameType | None) -> None:
    """Leave the server's loop; a second signal must not cut short what ends the child."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _pass_over)
    raise SystemExit(0)


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, of which Python complains when the second signal came before the first was handled."""


def _cannot_listen(settings: Settings, error: OSError | UnicodeError) -> str:
    where = f"port {settings.port} of {settings.host}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{where} is in use: end what listens there, or set {PREFIX}PORT to another port"
    reason = getattr(error, "strerror", None) or error
    return f"cannot listen on {where}: {reason}; see {PREFIX}HOST and {PREFIX}PORT"


if __name__ == "__main__":
    sys.exit(main())
