"""What is known of the GPUs: runs the process that asks the driver, and replaces it when it hangs."""

import json
import logging
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, cast

from sidecar.payload import Gpus, UnreadableGpu

log = logging.getLogger(__name__)

FIRST_DELAY_S = 1.0
LAST_DELAY_S = 60.0
STEADY_READINGS = 10
# The first answer may take long: without persistence mode the driver wakes every card first.
START_S = 60.0

Lines = queue.SimpleQueue[bytes | None]


class GpuWatch:
    """Keeps one child process that reads the GPUs; `current` never waits for it."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._silence_s = max(3.0, 3 * interval_s)
        self._clock = clock
        self._said: Gpus | None = None
        self._overdue_at = clock() + self._silence_s
        self._known: list[tuple[int | None, str | None]] = []
        self._cards: list[str | None] = []
        self._trouble: str | None = None
        self._lines: Lines = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="gpu-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the child and the thread."""
        self._stopping.set()
        self._lines.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def current(self) -> Gpus | None:
        """The GPUs as last read; all unreadable when the driver is silent; None before its first word."""
        if self._clock() > self._overdue_at:
            return self._unreadable(self._silent)
        return self._said

    @property
    def _silent(self) -> str:
        return f"the NVIDIA driver has not answered for over {self._silence_s:g} s"

    def _supervise(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            try:
                if self._run_child() >= STEADY_READINGS:
                    delay_s = FIRST_DELAY_S
            except Exception:  # a line that nobody foresaw; the thread must go on
                log.exception("the process that reads the GPUs could not be understood")
                self._fail("the process that reads the GPUs could not be understood")
            self._overdue_at = float("inf")
            self._stopping.wait(delay_s)
            delay_s = min(2 * delay_s, LAST_DELAY_S)

    def _run_child(self) -> int:
        """Start one child, listen until it ends or must be ended; returns how many readings it gave."""
        nothing_to_miss = self._said is not None and not self._known
        self._overdue_at = self._clock() + (START_S if nothing_to_miss else self._silence_s)
        self._lines = queue.SimpleQueue()
        try:
            child = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                [sys.executable, "-m", "sidecar.gpu_child", str(self._interval_s), json.dumps(self._cards)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the parent's, which ends this process
            )
        except OSError as error:
            self._fail(f"the process that reads the GPUs cannot be started: {error}")
            return 0
        stdin, stdout = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
        try:
            threading.Thread(target=_forward, args=(stdout, self._lines), daemon=True).start()
            return self._listen(child)
        finally:
            child.kill()
            stdin.close()
            self._bury(child)

    def _listen(self, child: subprocess.Popen[bytes]) -> int:
        readings = 0
        while not self._stopping.is_set():
            try:
                line = self._lines.get(timeout=self._silence_s if readings else START_S)
            except queue.Empty:
                self._fail(self._silent)
                break
            if line is None:
                if not self._stopping.is_set():
                    self._hear_end(child)
                break
            readings += self._hear(line)
        return readings

    def _hear(self, line: bytes) -> bool:
        """Take in one line of the child's; whether it was a reading."""
        word = json.loads(line)
        self._overdue_at = self._clock() + self._silence_s
        if "error" not in word:
            gpus = Gpus(word["gpu"], word["gpu_unreadable"])
            self._known = [(gpu["index"], gpu["uuid"]) for gpu in [*gpus.readable, *gpus.unreadable]]
            self._cards = word["cards"]
            self._say(gpus, "; ".join(f"GPU {gpu['uuid']}: {gpu['reason']}" for gpu in gpus.unreadable))
            return True
        if word["no_driver"] and not self._known:
            self._say(Gpus([], []), f"no NVIDIA driver here ({word['error']}), so no GPUs until there is one")
        else:
            self._fail(word["error"])
        return False

    def _hear_end(self, child: subprocess.Popen[bytes]) -> None:
        """Status 0 follows a last word that still holds; anything else is an accident (a driver crashed)."""
        try:
            status = child.wait(timeout=self._silence_s)
        except subprocess.TimeoutExpired:
            self._fail(self._silent)
        else:
            if status:
                self._fail(f"the process that reads the GPUs ended with status {status}")

    def _bury(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until a killed child is gone: in a driver that may take long, and a second would hang too."""
        while True:
            try:
                child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    return
            else:
                return

    def _fail(self, reason: str) -> None:
        self._say(self._unreadable(reason), f"GPUs unreadable: {reason}")

    def _say(self, gpus: Gpus, trouble: str = "") -> None:
        self._said = gpus
        if trouble != self._trouble:
            level = logging.WARNING if gpus.unreadable else logging.INFO
            log.log(level, "%s", trouble or f"GPUs that can be read: {len(gpus.readable)}")
        self._trouble = trouble

    def _unreadable(self, reason: str) -> Gpus:
        known = self._known or [(None, None)]
        return Gpus([], [UnreadableGpu(index=index, uuid=uuid, reason=reason) for index, uuid in known])


def _forward(pipe: IO[bytes], lines: Lines) -> None:
    """Read the child's lines in a thread, because a pipe cannot be read with a time limit on every system."""
    with pipe:
        for line in pipe:
            if line.endswith(b"\n"):  # else the child was killed in the middle of it
                lines.put(line)
    lines.put(None)
