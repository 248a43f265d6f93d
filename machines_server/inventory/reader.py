"""Reads machine files for threads that answer requests: they wait for changed files, but not for long."""

import logging
import threading
import time
from dataclasses import replace

from machines_server.core.machine import Problem, Registry
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.scan import display_name

WAIT_FOR_FILES_S = 5.0
"""How long to wait for all changed files: a thousand take 3 s."""
WAIT_FOR_A_FILE_S = 2.0
"""How long to wait for a single file: a network share may hang."""
_LOCK_WAIT_S = 0.01
"""Others hold the folder's lock for microseconds, unless they read."""

log = logging.getLogger(__name__)


class RegistryReader:
    """Reads files in a thread of its own; for any number of threads, but not across a fork.

    A caller gets every change made before the call. While reading takes too long, every caller gets the
    previous registry, with a problem that says so. The first reading is waited for, however long it takes.
    """

    def __init__(
        self,
        files: RegistryFiles,
        wait_s: float = WAIT_FOR_FILES_S,
        wait_for_a_file_s: float = WAIT_FOR_A_FILE_S,
    ) -> None:
        self._files, self._wait_s, self._wait_for_a_file_s = files, wait_s, wait_for_a_file_s
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._latest: Registry | None = None
        self._outdated: Registry | None = None
        """What is returned while reading takes too long."""
        self._failure: Exception | None = None
        # By the monotonic clock.
        self._wanted_at = self._read_at = self._progress_at = float("-inf")
        """When a reading was last requested, when the last finished one began, and when one made progress."""
        self._reading_since: float | None = None

    def current(self, now: float) -> Registry:
        """The registry at `now` (epoch seconds); the same object while nothing changes."""
        registry = self._overdue()
        if registry is None:
            registry = self._files.current_nowait(_LOCK_WAIT_S)
        if registry is not None:
            return registry
        try:
            return self._read_since(time.monotonic())
        except _NoThreadError:
            return self._files.current(now)

    def current_nowait(self) -> Registry | None:
        """The registry, or None if files must be read or are being read; never waits."""
        registry = self._overdue()
        return self._files.current_nowait() if registry is None else registry

    def unless_reported(self) -> Registry | None:
        """The registry, or None if the kernel has reported a change, or cannot; lists no files, never waits.

        It is also None while files are being read, unless that takes too long.
        """
        registry = self._overdue()
        return self._files.unless_reported() if registry is None else registry

    def _read_since(self, asked_at: float) -> Registry:
        """What a reading found that began after that time, or the registry before if that takes too long."""
        with self._changed:
            self._wanted_at = max(self._wanted_at, asked_at)
            self._wake_thread()
            while self._read_at < asked_at:
                left_s = None
                if self._latest is not None:
                    left_s = min(asked_at + self._wait_s, self._overdue_at()) - time.monotonic()
                    if left_s <= 0:
                        return self._registry_before(self._latest)
                self._changed.wait(left_s)
            if self._latest is None or self._failure is not None:
                raise RuntimeError("the machine files cannot be read") from self._failure
            return self._latest

    def _overdue(self) -> Registry | None:
        """The registry before, if reading takes too long; never waits."""
        if time.monotonic() < self._overdue_at() or not self._changed.acquire(blocking=False):
            return None
        try:
            if self._latest is None or time.monotonic() < self._overdue_at():
                return None
            return self._registry_before(self._latest)
        finally:
            self._changed.release()

    def _overdue_at(self) -> float:
        since = self._reading_since
        if since is None:
            return float("inf")
        return min(since + self._wait_s, max(since, self._progress_at) + self._wait_for_a_file_s)

    def _registry_before(self, latest: Registry) -> Registry:
        if self._outdated is None:
            message = "reading the machine files is taking long; all machines stay as they were until it ends"
            problem = Problem(display_name(str(self._files.folder)), message, severity="warning")
            log.warning("%s", problem)
            self._outdated = replace(latest, problems=(*latest.problems, problem))
        return self._outdated

    def _wake_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="files", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:  # there are too many threads
                raise _NoThreadError from error
            self._thread = thread
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted_at > self._read_at)
                self._reading_since = time.monotonic()
            self._read()

    def _read(self) -> None:
        registry, failure = None, None
        try:
            registry = self._files.current(time.time(), self._note_progress)
        except Exception as error:  # noqa: BLE001  raised in the threads that wait
            failure = error
        finally:
            with self._changed:
                self._latest = self._latest if registry is None else registry
                self._outdated, self._failure = None, failure
                self._read_at, self._reading_since = self._reading_since or self._read_at, None
                self._changed.notify_all()

    def _note_progress(self) -> None:
        self._progress_at = time.monotonic()


class _NoThreadError(Exception):
    """No thread can be started."""
