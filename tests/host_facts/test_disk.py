"""Which file system is shown as the disk, by mounts as real systems have them."""

import os
from pathlib import Path

import psutil
import pytest

from host_facts.disk import Mount, data_mount_point
from host_facts.facts import Facts
from host_facts.host import Host

SIZES = {"/": 5, "/var": 100, "/home": 400, "/data": 50, "/nix": 80, "/System/Volumes/Data": 900}


def mounts(text: str) -> list[Mount]:
    """Lines of /proc/self/mounts."""
    found = [line.split()[:4] for line in text.strip().splitlines()]
    return [Mount(device, place, kind, "ro" not in opts.split(",")) for device, place, kind, opts in found]


PLAIN = "/dev/sda2 / ext4 rw,relatime\n/dev/sdb1 /home xfs rw"
ZFS_ROOT = "rpool/ROOT/ubuntu / zfs rw,relatime\nrpool/home /home zfs rw"
FEDORA_ATOMIC = """
composefs / overlay ro,relatime,lowerdir=/run/ostree/.private/cfsroot-lower
/dev/sda3 /sysroot btrfs ro,relatime
/dev/sda3 /etc btrfs rw
/dev/sda3 /var btrfs rw,relatime
"""
COMPOSEFS = "composefs / composefs ro\n/dev/sda3 /var ext4 rw"
TALOS = "/dev/loop0 / squashfs ro\n/dev/sda6 /var xfs rw"
BOTTLEROCKET = "/dev/dm-0 / erofs ro\n/dev/sdb1 /var ext4 rw\n/dev/sdb1 /mnt ext4 rw"
SMALL_VAR = "/dev/sda4 / btrfs ro\n/dev/sda6 /data ext4 rw\n/dev/sda8 /home ext4 rw"
NIXOS_IN_MEMORY = "none / tmpfs rw\n/dev/sda2 /nix btrfs rw"
MACOS = """
/dev/disk3s1s1 / apfs ro,local,rootfs
/dev/disk3s5 /System/Volumes/Data apfs rw,local
"""
SEALED_WITH_NETWORK_HOME = """
/dev/loop0 / squashfs ro
server:/export /home nfs4 rw
//server/share /data cifs rw
/dev/sda6 /var ext4 rw
"""
LIVE = "overlay / overlay rw,upperdir=/cow/upper\n/dev/loop0 /rofs squashfs ro\ntmpfs /var tmpfs rw"
LIVE_WITH_DISK = "overlay / overlay rw\n/dev/sda1 /home ext4 rw"
ONLY_MEMORY = "/dev/loop0 / squashfs ro\ntmpfs /var tmpfs rw"
NOTHING_ELSE = "/dev/loop0 / squashfs ro\n/dev/sda6 /var ext4 ro"
MOUNTED_OVER = "/dev/loop0 / squashfs ro\n/dev/sda6 /var ext4 rw\n/dev/loop1 /var squashfs ro"


@pytest.mark.parametrize(
    ("table", "place"),
    [
        (PLAIN, "/"),
        (ZFS_ROOT, "/"),
        (FEDORA_ATOMIC, "/var"),
        (COMPOSEFS, "/var"),
        (TALOS, "/var"),
        (BOTTLEROCKET, "/var"),
        (SMALL_VAR, "/home"),
        (NIXOS_IN_MEMORY, "/nix"),
        (MACOS, "/System/Volumes/Data"),
        (SEALED_WITH_NETWORK_HOME, "/var"),
        (LIVE, "/"),
        (LIVE_WITH_DISK, "/home"),
        (ONLY_MEMORY, "/var"),
        (NOTHING_ELSE, "/"),
        (MOUNTED_OVER, "/"),
        ("", "/"),
    ],
)
def test_the_disk_is_the_one_that_holds_the_data(table: str, place: str) -> None:
    assert data_mount_point(mounts(table), SIZES.__getitem__) == place


def test_mounts_are_read_as_the_kernel_tells_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mounts").write_text(
        "composefs / overlay ro,relatime 0 0\n/dev/sda3 /var btrfs rw,errors=remount-ro 0 0\n"
    )
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert Facts().mounts() == [
        Mount("composefs", "/", "overlay", is_writable=False),
        Mount("/dev/sda3", "/var", "btrfs", is_writable=True),
    ]


def test_what_is_available_is_what_a_user_can_write() -> None:
    place = Facts().data_mount_point(Facts().mounts())
    reading, status = Host().read(), os.statvfs(place)
    assert reading["disk_total_bytes"] == status.f_blocks * status.f_frsize
    assert reading["disk_available_bytes"] == pytest.approx(status.f_bavail * status.f_frsize, rel=0.05)
