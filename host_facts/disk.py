"""Which mounted file system holds the data of this host."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

# Where systems with a read-only root keep data: macOS, ostree, Talos, NixOS, ChromeOS and similar ones.
DATA_MOUNT_POINTS = (
    "/System/Volumes/Data",
    *("/var", "/home", "/sysroot", "/data", "/persist", "/nix", "/mnt/stateful_partition"),
)
READ_ONLY_TYPES = {"composefs", "squashfs", "erofs", "cramfs", "romfs", "iso9660"}
# Overlays, whose figures are those of the file system below; and file systems in memory.
OVERLAY_TYPES = {"overlay", "overlayfs", "aufs", "unionfs", "fuse-overlayfs", "fuse.fuse-overlayfs"}
MEMORY_TYPES = {"tmpfs", "ramfs", "rootfs"}


class Mount(NamedTuple):
    """One mounted file system: device, mount point, type, and whether it is writable."""

    device: str
    place: str
    kind: str
    is_writable: bool


def data_mount_point(mounts: Sequence[Mount], size_of: Callable[[str], int]) -> str:
    """The mount point of the data: `/` if that is a writable disk, else the largest of DATA_MOUNT_POINTS.

    If none of those is a disk it is `/` if that is an overlay, which has the figures of what lies below; then
    the largest file system in memory. Network file systems are skipped, since reading one may hang.
    """
    seen = {mount.place: mount for mount in mounts}  # of several mounts at one place the last is visible
    root = seen.get("/")
    if root is None or (root.is_writable and root.kind not in READ_ONLY_TYPES | OVERLAY_TYPES | MEMORY_TYPES):
        return "/"
    writable = [seen[place] for place in DATA_MOUNT_POINTS if place in seen and seen[place].is_writable]
    disks = [mount.place for mount in writable if _is_disk(mount)]
    if disks:
        return max(disks, key=size_of)
    if root.is_writable and root.kind in OVERLAY_TYPES:
        return "/"
    others = [mount.place for mount in writable if mount.kind in OVERLAY_TYPES | MEMORY_TYPES]
    return max(others, key=size_of, default="/")


def _is_disk(mount: Mount) -> bool:
    return mount.kind not in READ_ONLY_TYPES and (mount.device.startswith("/dev/") or mount.kind == "zfs")
