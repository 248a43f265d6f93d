"""Checks the folders of credentials and of authorities, and says how to fix each fault."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from machines_server.cli.finding import Check
from machines_server.core.text import printable
from machines_server.core.times import rfc3339
from machines_server.credentials.content import UnusableError, authorization, certificates
from machines_server.credentials.files import AUTHORITIES, CREDENTIAL, Kind, described, read_private

WARN_BEFORE_EXPIRY_S = 14 * 86_400.0


def check_credentials(folder: Path | None) -> Iterator[Check]:
    """Check the folder of credentials and each file in it."""

    def check(content: bytes, _name: str) -> Iterator[Check]:
        authorization(content)
        return iter(())

    return _check(folder, CREDENTIAL, "credentials", check)


def check_authorities(folder: Path | None, now: float) -> Iterator[Check]:
    """Check the folder of authorities, and the dates of the certificates in its files."""

    def check(content: bytes, name: str) -> Iterator[Check]:
        for one in certificates(content):
            until, hint = rfc3339(one.expires_at), "put the next certificate of that authority into the file"
            if one.expires_at <= now:
                yield Check("authorities", "error", f"{name}: {one.name} has expired, on {until}", hint)
            elif one.expires_at <= now + WARN_BEFORE_EXPIRY_S:
                yield Check("authorities", "warning", f"{name}: {one.name} expires soon, on {until}", hint)

    return _check(folder, AUTHORITIES, "authorities", check)


def _check(
    folder: Path | None, kind: Kind, what: str, check: Callable[[bytes, str], Iterator[Check]]
) -> Iterator[Check]:
    """Check a folder, and each of its files with `check`; do nothing without a folder."""
    if folder is None:
        return
    try:
        found = folder.stat()
        names = sorted(one.name for one in folder.iterdir() if one.name[0] != "." and not one.is_dir())
    except OSError as error:
        yield Check(what, "error", f"{folder}: {error.strerror}", f"see {kind.setting}")
        return
    faults: list[Check] = []
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        finding = f"{folder} (mode {stat.S_IMODE(found.st_mode):04o}) lets other users replace its files"
        faults.append(Check(what, "error", finding, f"chown it, and chmod 0700 {folder}"))
    for name in names:
        try:
            faults += check(read_private(folder, name, kind)[0], printable(name))
        except (UnusableError, OSError) as error:
            reason = described(error) if isinstance(error, OSError) else str(error)
            faults.append(Check(what, "error", printable(f"{folder / name} cannot be used: {reason}")))
    yield from faults or [Check(what, "ok", f"{len(names)} in {folder}")]
