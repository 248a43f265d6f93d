"""The state of the GPUs: runs the process that calls the driver, and replaces it when it hangs."""

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, cast

from sidecar.payload import Gpus, UnreadableGpu
from sidecar.repeated_call import max_silence_s

log = logging.getLogger(__name__)

FIRST_RESTART_DELAY_S = 1.0
MAX_RESTART_DELAY_S = 60.0
STABLE_READINGS = 10
# The first answer may take long: without persistence mode the driver initialises every card first.
STARTUP_TIMEOUT_S = 60.0
# But if cards are late and none answers, one of them blocks the others.
BLOCKED_TIMEOUT_S = 10.0
# How long a card that blocked the others is skipped, at first and at most.
FIRST_SKIP_S, MAX_SKIP_S = 5.0, 600.0
LIBRARY_FOLDERS = ("/usr/lib/wsl/lib", "/run/opengl-driver/lib")
"""Where WSL and NixOS have NVML, outside the folders that are searched for libraries."""

Lines = queue.SimpleQueue[bytes | None]


class GpuWatch:
    """Keeps one child process running that reads the GPUs; `current` never waits for it."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._max_silence_s = max_silence_s(interval_s)
        self._clock = clock
        self._latest: Gpus | None = None
        self._overdue_at = clock() + self._max_silence_s
        self._known: list[tuple[int | None, str | None]] = []
        self._cards: list[str | None] = []
        self._late: list[int] = []
        self._skip_s: dict[int, float] = {}
        self._unkillable: list[subprocess.Popen[bytes]] = []
        self._trouble: str | None = None
        self._lines: Lines = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="gpu-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the child and the thread."""
        self._stopping.set()
        self._lines.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def current(self) -> Gpus | None:
        """The GPUs as last read; all unreadable while the driver is silent; None before its first answer."""
        if self._clock() > self._overdue_at:
            return self._unreadable(self._silence)
        return self._latest

    @property
    def _silence(self) -> str:
        return f"the NVIDIA driver has not answered for over {self._max_silence_s:g} s"

    def _supervise(self) -> None:
        delay_s = FIRST_RESTART_DELAY_S
        while not self._stopping.is_set():
            try:
                if self._run_child() >= STABLE_READINGS:
                    delay_s = FIRST_RESTART_DELAY_S
            except Exception:  # an unexpected line must not end the thread
                log.exception("the output of the process that reads the GPUs could not be understood")
                self._fail("the output of the process that reads the GPUs could not be understood")
            self._overdue_at = float("inf")
            self._stopping.wait(delay_s)
            delay_s = min(2 * delay_s, MAX_RESTART_DELAY_S)

    def _run_child(self) -> int:
        """Start one child and listen until it ends or has to be killed; returns how many readings it gave."""
        knows_of_no_gpu = self._latest is not None and not self._known
        self._overdue_at = self._clock() + (STARTUP_TIMEOUT_S if knows_of_no_gpu else self._max_silence_s)
        self._lines = queue.SimpleQueue()
        self._late = []
        try:
            child = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                [sys.executable, "-m", "sidecar.gpu_child", *map(json.dumps, self._arguments())],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C reaches only the parent, which ends the child
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
            self._wait_for_exit(child)

    def _arguments(self) -> tuple[object, ...]:
        return self._interval_s, self._cards, self._skip_s

    def _listen(self, child: subprocess.Popen[bytes]) -> int:
        readings, until = 0, self._clock() + STARTUP_TIMEOUT_S
        while not self._stopping.is_set():
            try:
                line = self._lines.get(timeout=max(0.0, until - self._clock()))
            except queue.Empty:
                self._fail(self._silence)
                self._skip_first_late()
                break
            if line is None:
                if not self._stopping.is_set():
                    self._handle_exit(child)
                break
            if self._handle_line(line):
                readings += 1
                until = self._clock() + self._max_silence_s
                if self._unkillable and self._have_all_exited():
                    break
            elif self._late:
                until = min(until, self._clock() + BLOCKED_TIMEOUT_S)
        return readings

    def _skip_first_late(self) -> None:
        """Skip the card that was late first if others wait for it, for longer each time."""
        if len(self._late) < 2:  # then no other card is blocked, and the driver itself hangs
            self._skip_s.clear()
            return
        number = self._late[0]
        before_s = self._skip_s.get(number)
        self._skip_s[number] = min(2 * before_s, MAX_SKIP_S) if before_s else FIRST_SKIP_S
        log.warning("GPU %d is skipped for %g s: others wait for it", number, self._skip_s[number])

    def _have_all_exited(self) -> bool:
        """Return whether all children that could not be killed are gone; then no card is skipped any more."""
        self._unkillable = [child for child in self._unkillable if child.poll() is None]
        if not self._unkillable:
            self._skip_s.clear()
        return not self._unkillable

    def _handle_line(self, line: bytes) -> bool:
        """Handle one line from the child; returns whether it was a reading."""
        message = json.loads(line)
        self._late = message.get("late", [])
        if "gpu" not in message and "error" not in message:
            return False
        self._overdue_at = self._clock() + self._max_silence_s
        if "error" not in message:
            gpus = Gpus(message["gpu"], message["gpu_unreadable"])
            self._known = [(gpu["index"], gpu["uuid"]) for gpu in [*gpus.readable, *gpus.unreadable]]
            self._cards = message["cards"]
            if not self._late and not message["skipped"]:
                self._skip_s.clear()
            self._update(gpus, "; ".join(f"GPU {gpu['uuid']}: {gpu['reason']}" for gpu in gpus.unreadable))
            return True
        if message["no_driver"] and not self._known:
            self._update(
                Gpus([], []), f"no NVIDIA driver here ({message['error']}), so no GPUs until there is one"
            )
        else:
            self._fail(message["error"])
        return False

    def _handle_exit(self, child: subprocess.Popen[bytes]) -> None:
        """After status 0 the last message stays valid; any other status is a failure: a driver crashed."""
        try:
            status = child.wait(timeout=self._max_silence_s)
        except subprocess.TimeoutExpired:
            self._fail(self._silence)
        else:
            if status:
                self._fail(f"the process that reads the GPUs ended with status {status}")

    def _wait_for_exit(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until a killed child is gone, which a driver may delay; a second child would hang as well.

        If only single cards hang, the others are read without them meanwhile.
        """
        until = self._clock() + self._max_silence_s
        while True:
            try:
                child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    return
                if self._late and self._clock() > until:
                    self._unkillable.append(child)
                    self._skip_s.update(dict.fromkeys(self._late, float("inf")))
                    return
            else:
                return

    def _fail(self, reason: str) -> None:
        self._update(self._unreadable(reason), f"GPUs unreadable: {reason}")

    def _update(self, gpus: Gpus, trouble: str = "") -> None:
        self._latest = gpus
        if trouble != self._trouble:
            level = logging.WARNING if gpus.unreadable else logging.INFO
            log.log(level, "%s", trouble or f"readable GPUs: {len(gpus.readable)}")
        self._trouble = trouble

    def _unreadable(self, reason: str) -> Gpus:
        known = self._known or [(None, None)]
        return Gpus([], [UnreadableGpu(index=index, uuid=uuid, reason=reason) for index, uuid in known])


def _environment() -> dict[str, str]:
    """Our environment, with the folders in which NVML is looked for last."""
    folders = [os.environ.get("LD_LIBRARY_PATH", ""), *LIBRARY_FOLDERS]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, folders))}


def _forward(pipe: IO[bytes], lines: Lines) -> None:
    """Read the child's lines in a thread, because not every system can read a pipe with a timeout."""
    with pipe:
        for line in pipe:
            if line.endswith(b"\n"):  # otherwise the child was killed while writing it
                lines.put(line)
    lines.put(None)
