"""The process that calls the NVIDIA driver: prints one JSON line per reading until its parent is gone.

Cards are read one after the other, each in its own thread, so that a card that hangs affects only itself. If
it holds a lock for which all others wait there are no readings; the process still reports which cards are
late, and the parent replaces it by one that skips the first of them.

It is a separate process because a driver call may hang forever, because a driver may crash its caller, and
because only a new process gets the matching library after an upgrade of the driver.
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
from sidecar.repeated_call import max_silence_s

# How long to wait before NVML is restarted for a lost card: at first, in intervals, and at most.
FIRST_RESTART_INTERVALS = 10
MAX_RESTART_S = 60.0
# A call that has hung for this long will not return, but a new process may succeed.
MAX_HANG_S = 60.0

SendLine = Callable[[dict[str, Any]], None]


def main() -> int:
    """Run until the parent is gone.

    Arguments: the interval in seconds; as JSON the UUIDs of the known cards; as JSON, by number of the card,
    for how many seconds cards are not to be read.
    """
    interval_s = float(sys.argv[1])
    skipped = {int(number): seconds for number, seconds in json.loads(sys.argv[3]).items()}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send = _private_stdout()
    try:
        pynvml.nvmlInit()
        _watch(Cards(json.loads(sys.argv[2]), max_silence_s(interval_s), skipped), interval_s, send)
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        send({"error": f"NVML: {error}", "no_driver": True})
    except pynvml.NVMLError as error:
        send({"error": f"NVML: {error}", "no_driver": False})
    return 0


def _watch(cards: Cards, interval_s: float, send: SendLine) -> None:
    """Read and send forever; returns, or raises NVMLError, when only a new process may succeed."""
    first_s = min(FIRST_RESTART_INTERVALS * interval_s, MAX_RESTART_S)
    restart_s = first_s
    restart_at: float | None = None
    while True:
        reading = cards.read()
        status = {"late": cards.late, "skipped": cards.skipped}
        if reading.is_new:
            found = {"gpu": reading.gpu, "gpu_unreadable": reading.gpu_unreadable, "cards": cards.uuids}
            send({**found, **status})
        else:
            send(status)
        if reading.is_new and not reading.gpu and (reading.lost or not cards.uuids):
            return
        if cards.overdue_s > MAX_HANG_S:
            return
        if not reading.lost:
            restart_s, restart_at = first_s, None
        elif restart_at is None:
            restart_at = time.monotonic() + restart_s
        elif time.monotonic() >= restart_at:
            if cards.late:  # restarting would hang as well
                return
            pynvml.nvmlShutdown()
            pynvml.nvmlInit()
            restart_s = min(2 * restart_s, MAX_RESTART_S)
            restart_at = time.monotonic() + restart_s
        time.sleep(interval_s)


def _private_stdout() -> SendLine:
    """A function that writes lines to the parent; what the driver prints goes to standard error instead."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        try:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()
        except OSError:  # the parent is gone
            os._exit(0)

    return send


def _end_with_parent() -> None:
    """Exit when standard input is closed, as it is when the parent ends, even while a driver call hangs."""
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    os._exit(main())  # skip the clean-up, in which a library may wait for a call that hangs
