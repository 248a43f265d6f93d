"""What a system may lack: locks, mappings, a new SQLite, a place for temporary files, room on its disk.

The server still starts, says in a sentence what is wrong, and all machines are unknown.
"""

import os
from pathlib import Path

import psutil
import pytest

from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, command, wait_for_status
from tests.tools import build_library, tool
from tests.world.conftest import Disk

SOURCE = Path(__file__).with_name("lacking.c")
OTHER_FOLDER = "set MACHINES_DATA_DIR to a folder on a local disk"
NO_LOCKS = f"its file system cannot lock files; {OTHER_FOLDER}"
LACKS = {
    "flock": f"poller.lock: its file system cannot lock files (Function not implemented); {OTHER_FOLDER}",
    "fcntl": f"telemetry.db: {NO_LOCKS}",
    "mmap": f"telemetry.db: its file system cannot map files into memory; {OTHER_FOLDER}",
    "sqlite": "SQLite 3.34.1 is too old, 3.37.0 or later is needed",
}
SETTLED_S, TICKS_S = 2.0, 3.0
"""Until a poller has all that it opens, and in what time it tries a dozen times to begin."""
FEW = 8
"""Files that may be more after another three dozen questions."""
NO_PLACE = """
for folder in /tmp /var/tmp /usr/tmp /dev/shm; do
  [ ! -d $folder ] || { mount --rbind $folder $folder && mount -o remount,bind,ro $folder; } || exit
done
mount -o remount,bind,ro / && mount --bind "$0" "$0" && mount -o remount,bind,rw "$0" && exec "$@"
"""
"""Makes all read-only but the folder that is its first argument."""


@pytest.fixture(params=LACKS)
def lack(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """What is to be said, and the environment in which something is missing."""
    flags = ['-DSQLITE_VERSION="3.34.1"'] if request.param == "sqlite" else []
    build_library(SOURCE, tmp_path / "lacking.so", *flags)
    return LACKS[request.param], {
        "LD_PRELOAD": str(tmp_path / "lacking.so"),
        "LACKING": request.param,
        "LACKING_BELOW": str(tmp_path / "var"),
    }


def said(server: RunningServer) -> str:
    """What is wrong with poller and store."""
    health = server.get("/health").json()
    return f"{health['poller']['message']} {health['store']['message']}"


def ask_everything(server: RunningServer) -> None:
    """Ask both workers what needs a database; each answers, or says that it cannot."""
    for path in ("/api/events", "/api/leases", "/api/models", "/api/route?model=m") * 4:
        assert server.get(path).status_code in (200, 503), path
    assert server.post("/api/leases", {"model": "m"}).status_code == 503
    assert server.get("/health/ready").status_code == 503


def test_a_server_that_lacks_something_says_so_and_what_to_do_and_all_machines_are_unknown(
    tmp_path: Path, fakes: FakeFleet, lack: tuple[str, dict[str, str]]
) -> None:
    sentence, environment = lack
    with RunningServer(tmp_path, **environment) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
        wait_until(lambda: sentence in said(server))
        wait_until(lambda: "one" in server.fleet())
        workers = psutil.Process(server.process.pid).children()
        ask_everything(server)
        psutil.wait_procs(workers, timeout=SETTLED_S)
        before = [worker.num_fds() for worker in workers]
        gone, _ = psutil.wait_procs(workers, timeout=TICKS_S)
        assert gone == []
        ask_everything(server)
        after = [worker.num_fds() for worker in workers]
        assert all(later <= earlier + FEW for earlier, later in zip(before, after, strict=True)), (
            before,
            after,
        )
        assert {one["status"] for one in server.fleet().values()} == {"unknown"}
    log = server.log.read_text()
    assert sentence in log
    assert log.count(sentence) <= 6  # the start, who polls, leases in two workers, what is lost at the end
    assert "Traceback" not in log


def test_doctor_and_migrate_say_what_is_lacking(tmp_path: Path, lack: tuple[str, dict[str, str]]) -> None:
    sentence, environment = lack
    settings = {"MACHINES_DIR": str(tmp_path), "MACHINES_DATA_DIR": str(tmp_path / "var"), **environment}
    migrated = command("migrate", **settings)
    if sentence.startswith("poller.lock"):
        (tmp_path / "var" / "poller.lock").touch(0o600)
    else:
        assert (migrated.returncode, migrated.stdout) == (1, "")
        assert sentence in migrated.stderr
    looked = command("doctor", **settings)
    assert looked.returncode == 1
    assert sentence in looked.stdout or "nothing has been written" in looked.stdout
    assert "Traceback" not in migrated.stderr + looked.stderr


def without_a_place(folder: Path) -> list[str]:
    """A command that runs another where nothing can be written but in `folder`."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    tool("mount")
    return [tool("unshare"), "--mount", "sh", "-c", NO_PLACE, str(folder)]


def test_a_read_only_system_without_a_place_for_temporary_files_is_enough(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    with RunningServer(tmp_path, prefix=without_a_place(tmp_path)) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
        wait_for_status(server, "one", "online")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("was_well", [True, False])
def test_a_server_starts_on_a_disk_that_is_full_and_is_well_once_there_is_room(
    tmp_path: Path, disk: Disk, fakes: FakeFleet, was_well: bool
) -> None:
    settings = {"MACHINES_DATA_DIR": str(disk.data)}
    machines = tmp_path / "machines"
    machines.mkdir()
    (machines / "one.yaml").write_text(machine_yaml("one", fakes.sidecar(), fakes.ollama()))
    if was_well:
        with RunningServer(tmp_path, **settings) as server:
            wait_for_status(server, "one", "online")
    disk.fill()
    with RunningServer(tmp_path, prefix=without_a_place(disk.path), **settings) as server:
        wait_until(lambda: "full" in said(server))
        assert wait_for_status(server, "one", "unknown")
        assert "MACHINES_ON_DAMAGE" not in said(server)
        disk.free()
        wait_for_status(server, "one", "online", 20)
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "MACHINES_ON_DAMAGE" not in log
