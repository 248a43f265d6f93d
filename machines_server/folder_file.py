"""Opens files in a folder, but follows no link out of it."""

import errno
import os
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
_IS_A_LINK = (errno.ELOOP, errno.EMLINK)
"""The errnos of open() for a link that it must not follow, on POSIX and FreeBSD."""


class OutsideFolderError(OSError):
    """The file is a link that leaves the folder."""


def open_in_folder(folder: Path, name: str) -> int:
    """A descriptor to read a file of the folder; a link must stay in it.

    Raises OutsideFolderError or another OSError. Opening never blocks on a device or a named pipe.
    """
    try:
        return os.open(folder / name, _FLAGS)
    except OSError as error:
        if error.errno not in _IS_A_LINK:
            raise
    target = os.path.realpath(folder / name, strict=True)
    if not Path(target).is_relative_to(os.path.realpath(folder)):
        raise OutsideFolderError(errno.EXDEV, f"it is a link that leaves the folder, to {target}")
    return os.open(target, _FLAGS)
