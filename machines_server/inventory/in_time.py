"""The registry for those who answer: they wait for machine files that have changed, but not for long."""

import threading
import time
from dataclasses import replace

from machines_server.core.machine import Problem, Registry
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.scan import display_name

WAIT_FOR_FILES_S = 2.0
"""A thousand changed files take this long, and a share on a network may take forever."""


class RegistryInTime:
    """Reads files in a thread of its own; for any number of threads.

    Whoever asks gets all changes until then. If reading them takes longer than `max_wait_s`, everybody gets,
    until that has ended, the registry before, with a problem that says so.
    """

    def __init__(self, files: RegistryFiles, max_wait_s: float = WAIT_FOR_FILES_S) -> None:
        self._files, self._max_wait_s = files, max_wait_s
        self._changed = threading.Condition()
        self._latest: Registry | None = None
        self._late: Registry | None = None
        """What is returned while reading takes too long."""
        self._failure: Exception | None = None
        # By the monotonic clock.
        self._reading_since: float | None = None
        self._read_at = float("-inf")
        """When the latest reading that has ended began."""

    def current(self, now: float) -> Registry:
        """The registry at `now` (epoch seconds); the same object while nothing changes."""
        if (registry := self.at_once()) is not None:
            return registry
        asked_at = time.monotonic()
        with self._changed:
            while self._read_at < asked_at:
                if self._reading_since is None:
                    self._begin_reading(now)
                    continue
                left_s = None
                if self._latest is not None:
                    left_s = self._reading_since + self._max_wait_s - time.monotonic()
                    if left_s <= 0:
                        return self._registry_before(self._latest)
                self._changed.wait(left_s)
            if self._latest is None or self._failure is not None:
                raise RuntimeError("the machine files cannot be read") from self._failure
            return self._latest

    def at_once(self) -> Registry | None:
        """The registry, or None if files must be read or are being read; never waits."""
        return self._overdue() or self._files.at_once()

    def unless_reported(self) -> Registry | None:
        """The registry, or None if the kernel has reported a change, or cannot; lists no files, never waits.

        While files are being read, it is the one before.
        """
        return self._overdue() or self._files.unless_reported()

    def _overdue(self) -> Registry | None:
        """The registry before, if reading takes too long."""
        since, latest = self._reading_since, self._latest
        if since is None or latest is None or time.monotonic() < since + self._max_wait_s:
            return None
        if not self._changed.acquire(blocking=False):
            return None
        try:
            return None if self._reading_since is None else self._registry_before(latest)
        finally:
            self._changed.release()

    def _registry_before(self, latest: Registry) -> Registry:
        if self._late is None:
            message = f"reading the machine files takes longer than {self._max_wait_s:g} s"
            message += "; until it has ended, all machines stay as they were"
            problem = Problem(display_name(str(self._files.folder)), message, severity="warning")
            self._late = replace(latest, problems=(*latest.problems, problem))
        return self._late

    def _begin_reading(self, now: float) -> None:
        self._reading_since = time.monotonic()
        try:
            threading.Thread(target=self._read, args=[now], name="files", daemon=True).start()
        except RuntimeError:  # there are too many threads
            self._read(now)

    def _read(self, now: float) -> None:
        registry, failure = self._latest, None
        try:
            registry = self._files.current(now)
        except Exception as error:  # noqa: BLE001  raised in the threads that wait
            failure = error
        with self._changed:
            self._latest, self._late, self._failure = registry, None, failure
            self._read_at, self._reading_since = self._reading_since or self._read_at, None
            self._changed.notify_all()
