"""Warnings about how this server is run: its address, its user and its data folder."""

import os
import re
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from machines_server.settings import Settings

_NETWORK_KINDS = frozenset({
    *("nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "sshfs", "davfs", "davfs2", "rclone", "s3fs"),
    *("ceph", "cephfs", "lustre", "glusterfs", "beegfs", "gpfs", "gfs2", "ocfs2", "orangefs", "pvfs2"),
    *("afs", "coda", "ncpfs", "mfs", "moosefs", "lizardfs", "seaweedfs", "juicefs", "wekafs", "gcsfuse"),
    *("9p", "virtiofs", "vboxsf", "vmhgfs", "vmhgfs-fuse", "prl_fs", "gvfsd-fuse"),
})  # fmt: skip
"""File systems shared with other machines; some are mounted with the prefix `fuse.`."""

_MOUNT_LINE = re.compile(r"(?P<id>\d+) (?P<parent>\d+) \S+ \S+ (?P<point>\S+)(?: \S+)*? - (?P<kind>\S+) ")
"""See proc_pid_mountinfo(5)."""


class Mount(NamedTuple):
    """A mounted file system: a line of /proc/self/mountinfo."""

    id: int
    parent: int
    point: str
    kind: str


def warnings_here(settings: Settings, *, listens: bool = True) -> list[str]:
    """The warnings for this process, a sentence each; `listens` is False if it only polls."""
    addresses = _addresses(settings.host) if listens else []
    return warnings_for(settings, os.geteuid(), read_mounts(), addresses)


def warnings_for(
    settings: Settings, euid: int, mounts: Sequence[Mount], addresses: Iterable[str]
) -> list[str]:
    """The warnings for a server run by user `euid` that listens on `addresses`; they name no paths."""
    warnings = []
    if settings.auth_mode == "off" and not all(map(_is_loopback, addresses)):
        host = settings.host if settings.host.isprintable() else repr(settings.host)
        warnings.append(
            f"MACHINES_HOST={host} can be reached from other machines and AUTH_MODE is off: anyone there "
            "can read everything and take leases; listen on 127.0.0.1, or restrict access with a firewall"
        )
    if euid == 0:
        warnings.append("Running as root, which is never needed: run the server as a dedicated user")
    # Several servers keep no database in their data folders.
    kind = None if settings.is_cluster else file_system_of(os.path.realpath(settings.data_dir), mounts)
    if kind is not None and kind.removeprefix("fuse.") in _NETWORK_KINDS:
        warnings.append(
            f"MACHINES_DATA_DIR is on a network file system ({kind}), where neither locks nor SQLite are "
            "reliable: choose a folder on a local disk"
        )
    return warnings


def file_system_of(path: str, mounts: Sequence[Mount]) -> str | None:
    """The type of the file system that contains a resolved path; None if no mount does."""
    kind, parent, remaining = None, None, list(mounts)
    ids = {mount.id for mount in mounts}
    while True:
        # As the kernel resolves a path: of nested mounts, the upper one hides the lower.
        candidates = [
            mount for mount in remaining if _parent(mount, ids) == parent and _contains(mount.point, path)
        ]
        if not candidates:
            return kind
        uppermost = min(candidates, key=lambda mount: len(mount.point))
        remaining.remove(uppermost)
        kind, parent = uppermost.kind, uppermost.id


def read_mounts(file: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """The file systems mounted for this process; none where the kernel does not list them."""
    try:
        lines = file.read_text("utf-8", "surrogateescape").split("\n")
    except OSError:
        return []
    matches = (_MOUNT_LINE.match(line) for line in lines)
    return [
        Mount(int(match["id"]), int(match["parent"]), _unescaped(match["point"]), _unescaped(match["kind"]))
        for match in matches
        if match
    ]


def _unescaped(text: str) -> str:
    """The text of a field, in which a space, tab, newline, backslash and # are octal: \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _parent(mount: Mount, ids: set[int]) -> int | None:
    return mount.parent if mount.parent in ids and mount.parent != mount.id else None


def _contains(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _addresses(host: str) -> list[str]:
    """The addresses of a host; the host itself if its name cannot be resolved."""
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return [host]


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback
