"""A server that is exposed or otherwise unsafe says so: at its start, to `doctor`, on the page."""

import json
import os
from pathlib import Path

import pytest

from machines_server.process.exposure import Mount, file_system_of, read_mounts, warnings_for, warnings_here
from machines_server.settings import load_settings
from tests.ports import free_port
from tests.running import RunningServer, command

NFS_HOME = """\
24 30 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
26 30 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=8124544k,mode=755,inode64
30 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
55 30 0:45 / /home rw,relatime shared:90 - nfs4 nas.lan:/home rw,vers=4.2,hard,proto=tcp,addr=10.0.0.2
56 55 254:2 / /home/local rw,relatime shared:91 - xfs /dev/vdb rw,attr2,inode64
57 55 0:46 / /home/with\\040space rw,relatime shared:92 - fuse.sshfs me@far.lan: rw,user_id=0,group_id=0
58 30 254:3 / /mnt/a/b rw,relatime - ext4 /dev/vdc rw
59 30 0:47 / /mnt/a rw,relatime - cifs //nas/share rw,vers=3.1.1
60 30 0:48 / /srv rw,relatime - nfs nas.lan:/srv rw
61 60 254:4 / /srv rw,relatime - btrfs /dev/vdd rw
"""
LOCAL = [Mount(1, 0, "/", "ext4")]


def mounts(folder: Path, text: str) -> list[Mount]:
    file = folder / "mountinfo"
    file.write_text(text)
    return read_mounts(file)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/machines", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/var", "nfs4"),
        ("/homeless", "ext4"),
        ("/home/local/var", "xfs"),
        ("/home/with space/var", "fuse.sshfs"),
        ("/mnt/a/b/var", "cifs"),  # what was mounted on /mnt/a later hides what was mounted below
        ("/srv/var", "btrfs"),  # of two at one place the upper one
    ],
)
def test_the_file_system_of_a_path_is_found_as_the_kernel_finds_it(
    tmp_path: Path, path: str, kind: str
) -> None:
    assert file_system_of(path, mounts(tmp_path, NFS_HOME)) == kind


def test_the_kernel_of_this_machine_is_understood(tmp_path: Path) -> None:
    here = read_mounts()
    assert file_system_of("/proc/self", here) == "proc"
    assert file_system_of(os.path.realpath(tmp_path), here) is not None


@pytest.mark.parametrize("text", ["", "nonsense\n", "1 - x\n", "a b c d e f - g\n"])
def test_where_the_kernel_says_nothing_of_use_nothing_is_said(tmp_path: Path, text: str) -> None:
    assert file_system_of("/var", mounts(tmp_path, text)) is None
    assert read_mounts(tmp_path / "missing") == []


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "fuse.ceph", "lustre", "glusterfs", "afs"],
)
def test_data_on_a_network_file_system_are_warned_of(tmp_path: Path, kind: str) -> None:
    settings = load_settings({"MACHINES_DATA_DIR": str(tmp_path)})[0]
    (sentence,) = warnings_for(settings, 1000, [Mount(1, 0, "/", kind)], ["127.0.0.1"])
    assert f"network file system ({kind})" in sentence
    assert str(tmp_path) not in sentence  # /health is for everybody


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.mergerfs"]
)
def test_data_on_this_machine_are_not(tmp_path: Path, kind: str) -> None:
    settings = load_settings({"MACHINES_DATA_DIR": str(tmp_path)})[0]
    assert warnings_for(settings, 1000, [Mount(1, 0, "/", kind)], ["127.0.0.1"]) == []


def test_a_link_to_a_network_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "far")
    settings = load_settings({"MACHINES_DATA_DIR": str(tmp_path / "var")})[0]
    far = [*LOCAL, Mount(2, 1, os.path.realpath(tmp_path / "far"), "nfs4")]
    assert len(warnings_for(settings, 1000, far, [])) == 1


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "0", "no-such-name.invalid"]
)
def test_listening_beyond_loopback_without_keys_is_warned_of(host: str) -> None:
    found = warnings_here(load_settings({"MACHINES_HOST": host})[0])
    assert [f"MACHINES_HOST={host} " in sentence for sentence in found].count(True) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "::ffff:127.0.0.1", "127.1"])
def test_listening_on_loopback_is_not(host: str) -> None:
    assert "MACHINES_HOST" not in str(warnings_here(load_settings({"MACHINES_HOST": host})[0]))


def test_running_as_root_is_warned_of_and_as_another_user_it_is_not() -> None:
    settings = load_settings({})[0]
    (sentence,) = warnings_for(settings, 0, LOCAL, [])
    assert "root" in sentence
    assert warnings_for(settings, 1000, LOCAL, []) == []


def test_a_host_cannot_write_control_characters_into_the_log() -> None:
    (sentence,) = warnings_for(load_settings({"MACHINES_HOST": "a\x1b[2Jb"})[0], 1000, LOCAL, ["192.0.2.1"])
    assert sentence.isprintable()


def test_an_open_server_says_so_once_at_its_start_and_in_health(tmp_path: Path) -> None:
    with RunningServer(tmp_path, MACHINES_HOST="0.0.0.0") as server:
        warnings = server.get("/health").json()["warnings"]
        assert "MACHINES_HOST=0.0.0.0 can be reached from other machines" in warnings[0]
    log = server.log.read_text()
    assert [log.count(sentence) for sentence in warnings] == [1] * len(warnings)


def test_doctor_warns_of_an_open_server_and_finds_no_fault_in_it(tmp_path: Path) -> None:
    settings = {"MACHINES_DATA_DIR": str(tmp_path), "MACHINES_DIR": str(tmp_path)}
    done = command("doctor", "--json", MACHINES_HOST="::", **settings)
    assert done.returncode == 0
    found = [check for check in json.loads(done.stdout) if check["what"] == "exposure"]
    assert {check["verdict"] for check in found} == {"warning"}
    assert "MACHINES_HOST=:: " in found[0]["finding"]
    assert "MACHINES_HOST" not in command("doctor", **settings).stdout


def test_a_poller_says_nothing_of_an_address_on_which_it_does_not_listen(tmp_path: Path) -> None:
    with RunningServer(
        tmp_path, command="poll", MACHINES_HOST="0.0.0.0", MACHINES_PORT=str(free_port())
    ) as poller:
        poller.poller_pid()
    log = poller.log.read_text()
    assert "MACHINES_HOST" not in log
    assert log.count("Running as root") == (os.geteuid() == 0)
