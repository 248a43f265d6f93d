"""Keeps the last good version of a machine file in use while the file is broken."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from machines_server.core.machine import Machine, Problem
from machines_server.errors import MachinesError
from machines_server.inventory.machine_file import Parsed, parse_declared
from machines_server.inventory.problem_list import Position
from machines_server.inventory.scan import Signature, display_name

log = logging.getLogger(__name__)

_MAX_SINGLE_QUERIES = 8
"""If more files are broken, the store is asked once for the versions of all files."""


@dataclass(slots=True)
class FileState:
    """The state of one file."""

    signature: Signature | None = None
    digest: bytes | None = None
    """A hash of the content; None while it cannot be read."""
    machine: Machine | None = None
    """The machine in use; None if there never was a good version."""
    name_at: Position = (None, None)
    hostname_at: Position = (None, None)
    problems: tuple[Problem, ...] = ()
    is_unsettled: bool = False
    """Whether to read the file again even if its signature stays the same."""
    restored_from: str | None = None
    """The JSON text in the store that `machine` was restored from."""

    @property
    def is_broken(self) -> bool:
        """Whether the content cannot be read, or has an error."""
        return self.digest is None or any(problem.severity == "error" for problem in self.problems)

    def accept(self, digest: bytes, parsed: Parsed) -> None:
        """Use what was parsed; a broken version leaves the machine as it is."""
        self.digest, self.problems = digest, parsed.problems
        if parsed.machine is not None:
            self.machine, self.restored_from = parsed.machine, None
            self.name_at, self.hostname_at = parsed.name_at, parsed.hostname_at

    def keep(self, problem: Problem) -> bool:
        """Keep the machine, since the file cannot be read; returns whether the problem is new."""
        is_news = self.digest is not None or self.problems != (problem,)
        self.digest, self.problems = None, (problem,)
        return is_news


class StoredVersions:
    """The last good versions in the store, which another process may have written.

    `read(file)` returns the JSON text of the stored version by file name: of one file, or of all if None. A
    stored version is used for a broken file that was never good in this process; with `is_preferred`, for
    every broken file, so that all processes agree.
    """

    def __init__(self, read: Callable[[str | None], Mapping[str, str]] | None, *, is_preferred: bool) -> None:
        self._read, self._is_preferred = read, is_preferred
        self._logged_failure = ""

    def is_needed(self, state: FileState) -> bool:
        """Return whether to ask the store for a version of this file, which it may have only later."""
        return self._read is not None and state.is_broken and (self._is_preferred or state.machine is None)

    def restore_broken(self, files: Mapping[str, FileState]) -> bool:
        """Use the stored versions of broken files; returns whether that changed any machine."""
        broken = {display_name(name): state for name, state in files.items() if self.is_needed(state)}
        stored: dict[str, str] = {}
        for query in broken if len(broken) <= _MAX_SINGLE_QUERIES else [None]:
            stored.update(self._query(query))
        restored = [_restore(state, name, stored[name]) for name, state in broken.items() if name in stored]
        return any(restored)

    def restore_all(self, files: dict[str, FileState]) -> bool:
        """Use all stored versions; returns whether there are any."""
        for name, text in self._query(None).items():
            _restore(files.setdefault(name, FileState()), name, text)
        return bool(files)

    def _query(self, file: str | None) -> Mapping[str, str]:
        """The stored versions; empty if the store cannot be read."""
        if self._read is None:
            return {}
        try:
            return self._read(file)
        except MachinesError:
            return {}
        except Exception as error:
            if str(error) != self._logged_failure:
                self._logged_failure = str(error)
                log.exception("the stored versions of machine files cannot be read")
            return {}


def _restore(state: FileState, name: str, text: str) -> bool:
    """Use a stored version; returns whether it differs from the one in use."""
    if text == state.restored_from:
        return False
    machine = parse_declared(text, name).machine
    if machine is None:
        return False
    state.machine, state.restored_from = machine, text
    return True
