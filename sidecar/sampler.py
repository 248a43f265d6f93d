"""The thread that reads the hardware, and its latest sample, encoded."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from host_facts.host import Host
from sidecar.payload import Gpus, Sample, assemble, to_json
from sidecar.plausible import without_implausible

log = logging.getLogger(__name__)

FIRST_CPU_WINDOW_S = 0.2
GPU_WAIT_S = 0.05


class GpuSource(Protocol):
    """Returns the state of the GPUs without waiting; None as long as nothing is known."""

    def current(self) -> Gpus | None: ...


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One sample with its JSON, and when reading it began, on the monotonic clock."""

    at: float
    sample: Sample
    body: bytes


class Sampler:
    """Takes a sample every `interval_s`; any thread may read the latest."""

    def __init__(
        self, host: Host, gpus: GpuSource, interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._gpus = gpus
        self._interval_s = interval_s
        self._stale_after_s = max(5.0, 5 * interval_s)
        self._clock = clock
        self._started_at = clock()
        self._latest: EncodedSample | None = None
        self._odd: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    @property
    def latest(self) -> EncodedSample | None:
        """The latest sample; None before the first."""
        return self._latest

    @property
    def is_stalled(self) -> bool:
        """Whether the thread is stuck, so that its latest sample is too old to be shown."""
        latest = self._latest
        since = latest.at if latest else self._started_at
        return self._clock() - since > self._stale_after_s

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; if it is stuck in a system call it is left behind as a daemon."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def _run(self) -> None:
        self._host.read()
        wait_s = min(FIRST_CPU_WINDOW_S, self._interval_s)
        due = self._clock() + wait_s
        while not self._stopping.wait(wait_s):
            gpus = self._gpus.current()
            if gpus is None:
                wait_s = GPU_WAIT_S
                due = self._clock() + wait_s
                continue
            self._take(gpus)
            now = self._clock()
            due = max(due + self._interval_s, now)
            wait_s = due - now

    def _take(self, gpus: Gpus) -> None:
        at = self._clock()
        gpus, odd = without_implausible(gpus)
        if odd and odd != self._odd:
            log.warning("impossible readings of the NVIDIA driver are left out: %s", "; ".join(odd))
        self._odd = odd
        sampled_at = datetime.now(UTC)
        sample = assemble(self._host.hostname(), sampled_at, self._host.read(), gpus)
        self._latest = EncodedSample(at, sample, to_json(sample))
