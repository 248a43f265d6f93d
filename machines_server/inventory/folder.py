"""Keeps a registry up to date with a folder of machine files."""

import logging
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from threading import Lock

from machines_server.core.machine import Problem, Registry
from machines_server.folder_file import OutsideFolderError
from machines_server.inventory.assemble import assemble
from machines_server.inventory.last_good import FileState, StoredVersions
from machines_server.inventory.machine_file import Parsed, parse_machine, unexpected
from machines_server.inventory.scan import (
    Signature,
    TooLargeError,
    display_name,
    list_files,
    read_file,
)
from machines_server.inventory.watch import FolderWatch

log = logging.getLogger(__name__)

SETTLE_S = 2.0
"""A file that changed this recently may change again with the same time: FAT has steps of 2 s."""
LIST_EVERY_S = 5.0
"""Files are listed this often even without a reported change, since the kernel misses writes through mmap."""


class RegistryFiles:
    """The machines of a folder, for any number of threads.

    `recall` and `recall_first` are the arguments of StoredVersions.

    `on_problem` is called once for each new problem, without the lock, in the thread that noticed it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recall: Callable[[str | None], Mapping[str, str]] | None = None,
        recall_first: bool = False,
        on_problem: Callable[[Problem], None] | None = None,
        parse: Callable[[bytes, str], Parsed] = parse_machine,
        settle_s: float = SETTLE_S,
        list_every_s: float = LIST_EVERY_S,
    ) -> None:
        self.folder = folder
        self._stored = StoredVersions(recall, is_preferred=recall_first)
        self._on_problem, self._parse = on_problem, parse
        self._settle_ns, self._list_every_s = int(settle_s * 1e9), list_every_s
        self._lock = Lock()
        self._files: dict[str, FileState] = {}
        self._changed_files: set[str] = set()
        """The files whose problems may have changed in this scan."""
        self._folder_problem: Problem | None = None
        self._registry: Registry | None = None
        self._watch = FolderWatch(folder)
        self._listed_at = float("-inf")
        self._is_unsettled = False
        self._is_reported = False
        """Whether the kernel has reported a change since the files were listed, which it does only once."""
        self._lists_again = False
        """Whether files are being listed although no change was reported."""

    def current(self, now: float, pause: Callable[[], object] = bool) -> Registry:
        """The registry at `now` (epoch seconds); the same object while nothing changes.

        `pause` is called after each file that has changed.
        """
        with self._lock:
            before = self._registry
            if before is not None and self._is_unchanged():
                return before
            try:
                is_different = self._scan(pause)
                if before is not None and not is_different:
                    return before
                registry = self._registry = assemble(self._files, self._folder_problem, now)
            finally:
                self._lists_again = False
            changed_files = self._changed_files
        if self._on_problem is not None:
            known = set() if before is None else set(before.problems)
            for problem in registry.problems:
                if problem.file in changed_files or problem not in known:
                    self._on_problem(problem)
        return registry

    def current_nowait(self, wait_s: float = 0.0) -> Registry | None:
        """The registry, or None if files must be read or another thread holds the lock for that long."""
        if not self._lock.acquire(timeout=wait_s):
            return None
        try:
            return self._registry if self._is_unchanged() else None
        finally:
            self._lock.release()

    def unless_reported(self) -> Registry | None:
        """The registry, or None if the kernel has reported a change, or cannot; lists no files, never waits.

        It is also None while another thread has the folder's lock, unless that lists files just in case.
        """
        if not self._lock.acquire(blocking=False):
            return self._registry if self._lists_again and self._watch.seems_quiet() else None
        try:
            return self._registry if self._is_quiet() else None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Stop watching the folder."""
        with self._lock:
            self._watch.stop()

    def _is_unchanged(self) -> bool:
        is_recent = time.monotonic() - self._listed_at < self._list_every_s
        return is_recent and self._is_quiet()

    def _is_quiet(self) -> bool:
        self._is_reported = self._is_reported or not self._watch.is_quiet()
        return not self._is_reported and not self._is_unsettled

    def _scan(self, pause: Callable[[], object]) -> bool:
        """Read the files that changed; returns whether the registry must be rebuilt."""
        was_quiet = self._is_quiet()
        self._lists_again = self._watch.begin() and was_quiet
        self._listed_at, self._is_reported = time.monotonic(), False
        self._changed_files = set()
        try:
            listing = list_files(self.folder)
        except OSError as error:
            self._watch.stop()
            return self._keep_all(error)
        if not listing.is_self_contained:
            self._watch.stop()
        is_different = self._folder_problem is not None
        self._folder_problem = None
        for name in self._files.keys() - listing.signatures.keys():
            del self._files[name]
            is_different = True
        for name, signature in listing.signatures.items():
            state = self._files.setdefault(name, FileState())
            is_to_be_read = state.is_unsettled or state.signature != signature
            if is_to_be_read and self._update(name, state, signature):
                is_different = True
                pause()
        is_different |= self._stored.restore_broken(self._files)
        self._is_unsettled = any(
            state.is_unsettled or self._stored.is_needed(state) for state in self._files.values()
        )
        return is_different

    def _keep_all(self, error: OSError) -> bool:
        """Keep all machines, since the folder cannot be listed; at the start, restore those in the store."""
        is_restored = not self._files and self._stored.restore_all(self._files)
        message = f"the folder of machine files cannot be read ({error.strerror}); expected a folder"
        message += ", all machines stay as they were"
        problem = Problem(display_name(str(self.folder)), message)
        is_news = problem != self._folder_problem
        self._folder_problem = problem
        return is_news or is_restored

    def _update(self, name: str, state: FileState, signature: Signature) -> bool:
        """Read one file; returns whether anything changed. A failure is a problem of this file only."""
        state.signature = signature
        try:
            is_different = self._read(name, state, signature)
        except Exception as error:
            state.is_unsettled = True
            is_different = state.keep(Problem(display_name(name), unexpected(error)))
            if is_different:
                log.exception("machine file %s cannot be read", display_name(name))
        if is_different:
            self._changed_files.add(display_name(name))
        return is_different

    def _read(self, name: str, state: FileState, signature: Signature) -> bool:
        file, began_ns = display_name(name), time.time_ns()
        parsed = None
        try:
            content = read_file(self.folder, name, signature)
        except FileNotFoundError as error:
            if not signature.error:  # removed since it was listed
                del self._files[name]
                return True
            return _keep(state, file, error)
        except OSError as error:
            return _keep(state, file, error)
        except TooLargeError as error:
            content, parsed = str(error).encode(), Parsed(None, (Problem(file, str(error)),))
        state.is_unsettled = abs(began_ns - signature.changed_ns) < self._settle_ns
        digest = blake2b(content).digest()
        if digest == state.digest:
            return False
        state.accept(digest, parsed or self._parse(content, file))
        return True


def _keep(state: FileState, file: str, error: OSError) -> bool:
    """Keep the machine of a file that cannot be read; try again, unless it is a link out of the folder."""
    state.is_unsettled = not isinstance(error, OutsideFolderError)
    message = f"the file cannot be read ({error.strerror or error}); expected a readable file"
    return state.keep(Problem(file, message))
