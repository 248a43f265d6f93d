"""Lists the machine files of a folder, detects changes, and reads the files."""

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from machines_server.core.text import printable
from machines_server.folder_file import open_in_folder
from machines_server.inventory.limits import MAX_MACHINE_FILE_BYTES, too_large

_SUFFIXES = (".yaml", ".yml")
_NOT_REGULAR = "it is not a regular file"


class Signature(NamedTuple):
    """The result of stat() for a file; it differs after every change, unless two changes are very close."""

    modified_ns: int = 0
    changed_ns: int = 0
    size_bytes: int = 0
    inode: int = 0
    mode: int = 0
    error: int = 0
    """The errno if stat() failed, else 0."""


class Listing(NamedTuple):
    """The machine files of a folder."""

    signatures: dict[str, Signature]
    is_self_contained: bool
    """Whether files can change only through this folder: none is a link or has a second name."""


class TooLargeError(Exception):
    """A file has more bytes than allowed; the message says how many."""


def is_machine_file(name: str) -> bool:
    """Return whether a file of that name is read; the suffix may be in upper case."""
    return name.lower().endswith(_SUFFIXES) and name[0] not in "._"


def display_name(name: str) -> str:
    """A file name as printable text; bytes that are not UTF-8 and control characters are escaped."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))


def ignored_entries(folder: Path) -> list[tuple[str, str]]:
    """The entries of a folder that are not read, sorted, with the reasons; empty if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:  # reported as a problem of the registry
        return []
    return [
        (display_name(name), "it is a folder" if is_folder else _why_ignored(name))
        for name, is_folder in names
        if is_folder or not is_machine_file(name)
    ]


def _why_ignored(name: str) -> str:
    if name[0] in "._":
        return f"its name begins with {name[0]}"
    return "its name does not end in .yaml or .yml"


def list_files(folder: Path) -> Listing:
    """List the machine files of a folder; raises OSError if the folder cannot be listed."""
    signatures: dict[str, Signature] = {}
    is_self_contained = True
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_machine_file(entry.name):
                continue
            try:
                s = entry.stat()
            except OSError as error:
                is_self_contained = False
                if not isinstance(error, FileNotFoundError) or entry.is_symlink():
                    signatures[entry.name] = Signature(error=error.errno or errno.EIO)
                continue
            is_self_contained &= s.st_nlink == 1 and not entry.is_symlink()
            if not stat.S_ISDIR(s.st_mode):
                signatures[entry.name] = Signature(
                    s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino, s.st_mode
                )
    return Listing(signatures, is_self_contained)


def read_file(folder: Path, name: str, signature: Signature) -> bytes:
    """The bytes of a file that was listed; never waits for a FIFO or a device.

    Raises TooLargeError, OutsideFolderError or another OSError.
    """
    if signature.error:
        raise OSError(signature.error, os.strerror(signature.error))
    if not stat.S_ISREG(signature.mode):
        raise OSError(errno.EINVAL, _NOT_REGULAR)
    return read_regular(open_in_folder(folder, name))


def read_regular(descriptor: int) -> bytes:
    """The bytes of an open file, which is closed; raises TooLargeError or OSError."""
    try:
        s = os.fstat(descriptor)
        if not stat.S_ISREG(s.st_mode):
            raise OSError(errno.EINVAL, _NOT_REGULAR)
        content = bytearray()
        while len(content) <= MAX_MACHINE_FILE_BYTES and (
            part := os.read(descriptor, MAX_MACHINE_FILE_BYTES + 1 - len(content))
        ):
            content += part
        if len(content) > MAX_MACHINE_FILE_BYTES:
            raise TooLargeError(too_large(max(s.st_size, len(content))))
        return bytes(content)
    finally:
        os.close(descriptor)
