"""The folder of machine files as a Registry: hot reload on read, the last good versions stay in force."""

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from machines_server.core.registry import Machine, Problem, Registry
from machines_server.errors import MachinesError
from machines_server.folder_watch import FolderWatch
from machines_server.machine_file import Parsed, parse_declared, parse_machine
from machines_server.yaml_document import MAX_BYTES

RACY_NS = 2_000_000_000
"""A file changed this recently may change again without its times showing it: one tick of FAT, two of NFS."""

_LOOK_S = 5.0
"""How often all files are looked at whatever the kernel says: it does not tell of what is written by mmap."""

Signature = tuple[int, ...]
"""What tells one state of a file from another: times, size, inode and mode, or only the errno of its stat."""


LOOK_SHARE = 99.0
"""`recent` rests so many times as long as it took to look at all files."""


class _Look(NamedTuple):
    """When all files were last looked at (monotonic), for how long, and what the folder was like."""

    folder: Signature
    ended_at: float
    took_s: float


@dataclass(slots=True)
class _File:
    """What is known of one file; `digest` is None while it cannot be read."""

    signature: Signature = ()
    digest: bytes | None = None
    machine: Machine | None = None
    name_at: tuple[int | None, int | None] = (None, None)
    problems: tuple[Problem, ...] = ()
    refused: Problem | None = None
    read_again: bool = False
    recall_again: bool = False
    recalled: str | None = None


class RegistryFiles:
    """The machines of a folder, for any number of threads.

    `recall(file)` may supply the JSON text of the last good version of a file, by its name, or of all files
    (None). It stands for what is broken and this process has never seen whole; with `recall_first` for all
    that is broken, so that several processes agree.

    `on_problem` is called once for each problem that a change brought, outside the lock, by the thread whose
    call saw the change.

    `parse(content, file)` may give None: the file is being read, and is to be asked for again. Until then
    its last good version stands.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recall: Callable[[str | None], Mapping[str, str]] | None = None,
        recall_first: bool = False,
        on_problem: Callable[[Problem], None] | None = None,
        look_share: float = LOOK_SHARE,
        parse: Callable[[bytes, str], Parsed | None] = parse_machine,
    ) -> None:
        self.folder = folder
        self._ask_store, self._recall_first = recall, recall_first
        self._on_problem = on_problem
        self._look_share, self._parse = look_share, parse
        self._lock = Lock()
        self._files: dict[str, _File] = {}
        self._signatures: dict[str, Signature] = {}
        self._read_again = False
        self._folder_problem: Problem | None = None
        self._registry: Registry | None = None
        self._looked: _Look | None = None
        self._watch, self._scanned_at = FolderWatch(folder), float("-inf")
        self._is_plain = False
        """Whether a watch on the folder tells of every change: no file has a name elsewhere."""

    def current(self, now: float) -> Registry:
        """The machines as the folder has them; the very same object as long as nothing changes."""
        with self._lock:
            before = self._registry
            if before is not None and self._is_unchanged():
                return before
            is_different = self._scan()
            if before is not None and not is_different:
                return before
            registry = self._registry = self._assemble(now)
        if self._on_problem is not None:
            known = {id(problem) for problem in before.problems} if before else set()
            for problem in registry.problems:
                if id(problem) not in known:
                    self._on_problem(problem)
        return registry

    def recent(self, now: float) -> Registry:
        """As `current`, but at most a hundredth of the time goes into looking at files.

        A file that comes, goes or is replaced is seen at once; one that is written in place, up to a hundred
        times as long after that as it takes to look at all of them: 0.3 s with 1,000 files.
        """
        with self._lock:
            looked = self._looked
            if (
                looked is not None
                and self._registry is not None
                and not self._read_again
                and time.monotonic() - looked.ended_at < self._look_share * looked.took_s
                and _folder_signature(self.folder) == looked.folder
            ):
                return self._registry
        return self.current(now)

    def close(self) -> None:
        """Watch the folder no more."""
        with self._lock:
            self._watch.stop()

    def _is_unchanged(self) -> bool:
        """Whether no look at the files is needed; there is one each 5 s, whatever the kernel says."""
        is_recent = time.monotonic() - self._scanned_at < _LOOK_S
        return is_recent and not self._read_again and self._watch.is_quiet()

    def _scan(self) -> bool:
        """Read what changed since the last scan; whether anything is different now."""
        self._watch.begin()
        self._scanned_at = time.monotonic()
        is_different = self._scan_files()
        if not self._is_plain or self._folder_problem is not None:
            self._watch.stop()
        return is_different

    def _scan_files(self) -> bool:
        began_at, folder = time.monotonic(), _folder_signature(self.folder)
        self._looked = None
        try:
            signatures = self._list()
        except OSError as error:
            return self._keep_without_folder(error)
        is_different = self._folder_problem is not None
        self._folder_problem = None
        if folder is not None:
            ended_at = time.monotonic()
            self._looked = _Look(folder, ended_at, ended_at - began_at)
        if signatures == self._signatures and not self._read_again:
            return is_different
        for name in self._files.keys() - signatures.keys():
            del self._files[name]
            is_different = True
        for name, signature in signatures.items():
            file = self._files.setdefault(name, _File())
            if file.read_again or file.signature != signature:
                file.signature = signature
                is_different |= self._read(name, file)
        self._signatures = {name: file.signature for name, file in self._files.items()}
        self._read_again = any(file.read_again for file in self._files.values())
        return is_different

    def _list(self) -> dict[str, Signature]:
        found: dict[str, Signature] = {}
        self._is_plain = True
        with os.scandir(self.folder) as entries:
            for entry in entries:
                name = entry.name
                if not name.endswith((".yaml", ".yml")) or name[0] in "._":
                    continue
                try:
                    s = entry.stat()
                except OSError as error:
                    self._is_plain = False
                    if not isinstance(error, FileNotFoundError) or entry.is_symlink():
                        found[name] = (error.errno or errno.EIO,)
                else:
                    self._is_plain &= s.st_nlink == 1 and not entry.is_symlink()
                    if not stat.S_ISDIR(s.st_mode):
                        found[name] = (s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino, s.st_mode)
        return found

    def _keep_without_folder(self, error: OSError) -> bool:
        is_recalled = not self._files and self._recall_all()
        reason = f"the folder of machine files cannot be read ({error.strerror})"
        problem = Problem(
            _shown(str(self.folder)), f"{reason}; expected a folder, until then all stays as it was"
        )
        if problem == self._folder_problem:
            return is_recalled
        self._folder_problem = problem
        return True

    def _read(self, name: str, file: _File) -> bool:
        """Read one file, parse it if its bytes are new; whether anything is different."""
        began_ns = time.time_ns()
        try:
            content = _content(self.folder / name, file.signature)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and len(file.signature) > 1:
                del self._files[name]
                return True
            return self._unreadable(_shown(name), file, error)
        file.read_again = abs(began_ns - file.signature[1]) < RACY_NS
        digest = blake2b(content).digest()
        if digest == file.digest:
            return self._recall(_shown(name), file) if file.recall_again else False
        parsed = self._parse(content, _shown(name))
        if parsed is None:
            message = "the file takes long to read and is being read; expected less in it"
            return self._keep(_shown(name), file, Problem(_shown(name), message, severity="warning"))
        file.digest, file.problems, file.refused = digest, parsed.problems, None
        if parsed.machine is not None:
            file.machine, file.name_at, file.recalled = parsed.machine, parsed.name_at, None
        self._recall(_shown(name), file)
        return True

    def _unreadable(self, name: str, file: _File, error: OSError) -> bool:
        message = f"the file cannot be read ({error.strerror}); expected a readable file"
        return self._keep(name, file, Problem(name, message))

    def _keep(self, name: str, file: _File, problem: Problem) -> bool:
        """Let the last good version stand, since for now nothing can be said of the file itself."""
        file.read_again = True
        is_known = file.digest is None and file.problems == (problem,)
        if is_known and not file.recall_again:
            return False
        if not is_known:
            file.digest, file.problems = None, (problem,)
        return self._recall(name, file) or not is_known

    def _recall(self, name: str, file: _File) -> bool:
        """Ask for the last good version of a broken file that this process has never seen whole."""
        file.recall_again = False
        is_broken = file.digest is None or any(problem.severity == "error" for problem in file.problems)
        if self._ask_store is None or not is_broken or (file.machine is not None and not self._recall_first):
            return False
        # Ask again with the next call: what was kept may be late, or the store says that it cannot be read.
        file.recall_again = file.read_again = self._recall_first or file.machine is None
        with suppress(MachinesError):
            return self._take(file, name, self._ask_store(name).get(name))
        return False

    def _recall_all(self) -> bool:
        """While the folder has never been seen, what was kept of it stands."""
        with suppress(MachinesError):
            kept = self._ask_store(None) if self._ask_store else {}
            for name, declared in kept.items():
                self._take(self._files.setdefault(name, _File()), name, declared)
        return bool(self._files)

    def _take(self, file: _File, name: str, declared: str | None) -> bool:
        """Put the last good version of a file in force; whether that is another one."""
        if declared is None or declared == file.recalled:
            return False
        machine = parse_declared(declared, name).machine
        if machine is None:
            return False
        file.machine, file.recalled = machine, declared
        return True

    def _assemble(self, now: float) -> Registry:
        """The machines in force; of two files with one name the first in name order is taken."""
        machines: dict[str, Machine] = {}
        problems = [self._folder_problem] if self._folder_problem else []
        for _, file in sorted(self._files.items()):
            problems += file.problems
            if file.machine is None:
                continue
            first = machines.setdefault(file.machine.name.casefold(), file.machine)
            refused = None if first is file.machine else _name_taken(file.machine, file.name_at, first)
            if refused != file.refused:
                file.refused = refused
            if file.refused is not None:
                problems.append(file.refused)
        by_name = sorted(machines.values(), key=lambda machine: machine.name)
        return Registry(tuple(by_name), tuple(problems), now, is_whole=self._folder_problem is None)


def _folder_signature(folder: Path) -> Signature | None:
    """What changes when a file comes, goes or is replaced; None if it changed just now, or is not there."""
    try:
        s = folder.stat()
    except OSError:
        return None
    # The clock of a file system may stand still for some milliseconds.
    return None if abs(time.time_ns() - s.st_mtime_ns) < RACY_NS else (s.st_mtime_ns, s.st_ctime_ns, s.st_ino)


def _name_taken(machine: Machine, at: tuple[int | None, int | None], first: Machine) -> Problem:
    message = f"{first.file} already has the name {first.name}, so {machine.file} is refused"
    return Problem(machine.file, f"{message}; expected another name, compared without case", *at, "name")


def _content(path: Path, signature: Signature) -> bytes:
    """At most one byte more than a machine file may have; never waits for a FIFO or a device."""
    if len(signature) == 1:
        raise OSError(signature[0], os.strerror(signature[0]))
    if not stat.S_ISREG(signature[-1]):
        raise OSError(errno.EINVAL, "it is not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(MAX_BYTES + 1)


def _shown(name: str) -> str:
    """A file name as text; bytes that are not UTF-8, and what would disturb a terminal, are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
