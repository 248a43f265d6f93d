"""The one thread that reads the hardware, and the bytes of its latest sample."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sidecar.host import Host
from sidecar.payload import Gpus, Sample, assemble, to_json

FIRST_WINDOW_S = 0.2
GPU_RETRY_S = 0.05


class GpuSource(Protocol):
    """Who knows the GPUs; answers at once, and None as long as nothing is known yet."""

    def current(self) -> Gpus | None: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """One sample, its JSON bytes, and when its reading began on the monotonic clock."""

    at: float
    sample: Sample
    body: bytes


class Sampler:
    """Takes a sample every `interval_s`; any thread may ask for the latest."""

    def __init__(
        self, host: Host, gpus: GpuSource, interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._gpus = gpus
        self._interval_s = interval_s
        self._stale_after_s = max(5.0, 5 * interval_s)
        self._clock = clock
        self._started_at = clock()
        self._latest: Taken | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    @property
    def latest(self) -> Taken | None:
        """The latest sample; None before the first."""
        return self._latest

    @property
    def is_stalled(self) -> bool:
        """Whether the thread hangs: what it last took is too old to be shown."""
        latest = self._latest
        since = latest.at if latest else self._started_at
        return self._clock() - since > self._stale_after_s

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that hangs in a system call is left behind as a daemon."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def _run(self) -> None:
        self._host.read()
        wait_s = min(FIRST_WINDOW_S, self._interval_s)
        due = self._clock() + wait_s
        while not self._stopping.wait(wait_s):
            gpus = self._gpus.current()
            if gpus is None:
                wait_s = GPU_RETRY_S
                continue
            self._take(gpus)
            now = self._clock()
            due = max(due + self._interval_s, now)
            wait_s = due - now

    def _take(self, gpus: Gpus) -> None:
        at = self._clock()
        sampled_at = datetime.now(UTC)
        sample = assemble(self._host.hostname(), sampled_at, self._host.read(), gpus)
        self._latest = Taken(at, sample, to_json(sample))
