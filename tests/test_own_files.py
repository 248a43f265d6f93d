"""Only their user can read what the server and its commands write."""

import os
import shutil
import stat
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from machines_server.errors import StoreError
from machines_server.store.sqlite.connection import open_coordination, open_writer
from machines_server.store.sqlite.own_files import claim, open_to_others
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, clean_environment, command, wait_for_status


def modes(folder: Path) -> dict[str, int]:
    """Of a folder and all in it."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


@pytest.fixture(autouse=True)
def _umask() -> object:
    """As most users have it; `claim` changes it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_databases_are_private_with_all_that_sqlite_puts_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    with closing(open_writer(folder / "telemetry.db")) as one:
        one.execute("CREATE TABLE t (a)")
        with closing(open_coordination(folder / "coordination.db", 100)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("CREATE TABLE t (a)")
            found = modes(folder)
            other.execute("COMMIT")
    assert found.pop("var") == 0o700
    assert {"telemetry.db-wal", "telemetry.db-shm", "coordination.db-journal"} <= found.keys()
    assert set(found.values()) == {0o600}


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o705, 0o711])
def test_a_folder_that_others_can_read_is_closed_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    for name in ("telemetry.db", "telemetry.db-wal", "coordination.lock", "poller.lock"):
        (folder / name).touch()
        (folder / name).chmod(0o664)
    (folder / "notes").touch()
    folder.chmod(mode)
    claim(folder)
    found = modes(folder)
    assert found.pop("notes") == 0o644  # which is not ours
    assert found.pop("var") == 0o700
    assert set(found.values()) == {0o600}
    assert len(caplog.records) == 1
    assert not list(open_to_others(folder))
    claim(folder)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", ["holds a folder", "sticky"])
def test_a_folder_that_others_need_is_left_as_it_is_and_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    if kind == "sticky":
        folder.chmod(0o1777)
    else:
        (folder / "home").mkdir()
    before = modes(folder)
    with pytest.raises(StoreError, match="set MACHINES_DATA_DIR to a folder of its own"):
        claim(folder)
    assert modes(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as another user")
def test_a_folder_of_another_user_is_refused_in_one_line() -> None:
    script = (
        "import os, sys; from pathlib import Path; from machines_server.store.sqlite.own_files import claim\n"
        "os.setuid(65534)\nclaim(Path(sys.argv[1]))"
    )
    with TemporaryDirectory() as outer:
        folder = Path(outer) / "var"
        folder.mkdir()
        for path in (Path(outer), folder):
            path.chmod(0o777)
        words = [sys.executable, "-c", script, str(folder)]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "other users can read" in last
    assert "set MACHINES_DATA_DIR to a folder that this user creates" in last


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, and setpriv to take its rights"
)
@pytest.mark.parametrize(
    "words", ["serve", "poll", "migrate", "doctor", "backup {outside}/copy.db", "backup {folder}/copy.db"]
)
@pytest.mark.parametrize("folder", ["var", "var/within"])
def test_a_private_folder_of_another_user_is_said_in_words(tmp_path: Path, words: str, folder: str) -> None:
    (tmp_path / "var" / "within").mkdir(parents=True)
    (tmp_path / "var").chmod(0o700)
    os.chown(tmp_path / "var", 65534, 65534)
    named = words.format(folder=tmp_path / folder, outside=tmp_path).split()
    environment = clean_environment(MACHINES_DATA_DIR=str(tmp_path / folder), MACHINES_DIR=str(tmp_path))
    without_rights = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]  # root without its rights
    ended = subprocess.run(
        [*without_rights, sys.executable, "-m", "machines_server", *named],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "Permission denied" in ended.stdout + ended.stderr or "unable to open" in ended.stderr


def test_all_that_a_server_writes_is_private_whatever_the_umask(tmp_path: Path, fakes: FakeFleet) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "one.yaml").write_text(
        machine_yaml("one", fakes.sidecar(), fakes.ollama("phi3:mini"))
    )
    data = tmp_path / "var"
    data.mkdir(mode=0o755)
    os.umask(0)
    with RunningServer(tmp_path) as server:
        wait_for_status(server, "one", "online")
        wait_until(lambda: server.post("/api/leases", {"model": "phi3:mini", "ttl_s": 60}).ok)
        found = modes(data)
        copy = tmp_path / "copy.db"
        ended = command("backup", str(copy), **server.settings)
        assert ended.returncode == 0, ended.stderr
    assert found.pop("var") == 0o700
    assert {"telemetry.db", "telemetry.db-wal", "coordination.db", "coordination.lock"} <= found.keys()
    assert "poller.lock" in found
    assert set(found.values()) == {0o600}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert server.log.read_text().count("other users could read") == 1


def test_a_backup_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    data, target = tmp_path / "var", tmp_path / "copies"
    target.mkdir()
    assert command("migrate", MACHINES_DATA_DIR=str(data)).returncode == 0
    with closing(open_writer(data / "telemetry.db")) as connection:
        connection.execute("CREATE TABLE filler (a)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(80000000))")
    words = [sys.executable, "-m", "machines_server", "backup", str(target / "copy.db")]
    with subprocess.Popen(words, env=clean_environment(MACHINES_DATA_DIR=str(data))) as process:

        def writes() -> bool:
            """Whether it has a file there open, which has no name since SQLite has opened it, too."""
            assert process.poll() is None
            with suppress(OSError):
                links = Path(f"/proc/{process.pid}/fd").iterdir()
                opened = [str(link.readlink()) for link in links]
                return any(one.startswith(str(target)) and one.endswith(" (deleted)") for one in opened)
            return False

        try:
            until = time.monotonic() + 60
            while not writes():  # looks often, to kill it long before the end
                assert time.monotonic() < until
                time.sleep(0.001)
        finally:
            process.kill()
    assert list(target.iterdir()) == []
    ended = command("backup", str(target / "copy.db"), MACHINES_DATA_DIR=str(data))
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in target.iterdir()] == ["copy.db"]


def test_no_backup_takes_the_place_of_a_file(tmp_path: Path) -> None:
    data, there = tmp_path / "var", tmp_path / "there"
    assert command("migrate", MACHINES_DATA_DIR=str(data)).returncode == 0
    there.write_text("mine")
    ended = command("backup", str(there), MACHINES_DATA_DIR=str(data))
    assert ended.returncode == 1
    assert there.read_text() == "mine"


def test_doctor_names_files_of_leases_that_cannot_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    for name in ("coordination.db", "coordination.lock"):
        (folder / name).mkdir(parents=True)
    done = command("doctor", MACHINES_DIR=str(tmp_path), MACHINES_DATA_DIR=str(folder))
    for name in ("coordination.db", "coordination.lock"):
        assert (
            f"FAIL  data folder: {folder / name} is no file that this user can read and write" in done.stdout
        )
    assert done.returncode == 1
