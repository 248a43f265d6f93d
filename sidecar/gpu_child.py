"""The process that talks to the NVIDIA driver: one JSON line per reading, until its parent is gone.

It is a process of its own because a driver call may hang for ever, because a driver may crash whoever
calls it, and because after an upgrade of the driver only a fresh process gets the matching library.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pynvml

from sidecar.gpu import Cards

# How long a lost card waits for NVML to be started again, at first in intervals, in the end in seconds.
FIRST_RESTART = 10
LAST_RESTART_S = 60.0

Say = Callable[[dict[str, Any]], None]


def main() -> int:
    """Arguments: the interval in seconds, and a JSON list of the UUIDs of the cards known so far."""
    interval_s = float(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    say = _private_stdout()
    try:
        pynvml.nvmlInit()
        _watch(Cards(json.loads(sys.argv[2])), interval_s, say)
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        say({"error": f"NVML: {error}", "no_driver": True})
    except pynvml.NVMLError as error:
        say({"error": f"NVML: {error}", "no_driver": False})
    return 0


def _watch(cards: Cards, interval_s: float, say: Say) -> None:
    """Read and say for ever; return when a fresh process is the only hope, raise NVMLError likewise."""
    first_s = min(FIRST_RESTART * interval_s, LAST_RESTART_S)
    restart_s = first_s
    restart_at: float | None = None
    while True:
        reading = cards.read()
        say({"gpu": reading.gpu, "gpu_unreadable": reading.gpu_unreadable, "cards": cards.uuids})
        if not reading.gpu and (reading.lost or not cards.uuids):
            return
        if not reading.lost:
            restart_s, restart_at = first_s, None
        elif restart_at is None:
            restart_at = time.monotonic() + restart_s
        elif time.monotonic() >= restart_at:
            pynvml.nvmlShutdown()
            pynvml.nvmlInit()
            restart_s = min(2 * restart_s, LAST_RESTART_S)
            restart_at = time.monotonic() + restart_s
        time.sleep(interval_s)


def _private_stdout() -> Say:
    """Write lines where the parent listens; what the driver prints goes to stderr instead."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        try:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()
        except OSError:  # nobody listens any more
            os._exit(0)

    return say


def _end_with_parent() -> None:
    """The parent holds the other end of stdin, so its end is seen here, even while a driver call hangs."""
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
