"""A disk that is full or read-only, and a wall clock that is set: our faults, and nobody else's."""

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.fill import Host, Period, fill
from machines_server.core.past.rollup import TIER_STEPS_S
from machines_server.errors import StoreError
from machines_server.store.sqlite.connection import open_reader
from machines_server.store.sqlite.coordination.poller_lock import CONTENT_BYTES
from machines_server.store.sqlite.migrate import known_migrations, migrate
from machines_server.store.values import Retention
from tests.fakes import FakeFleet, wait_until
from tests.running import RunningServer, command
from tests.store.sqlite.older import as_version, kept_columns
from tests.store.sqlite.telemetry.folds import rollups_that_differ
from tests.world.conftest import BLOCK, Disk
from tests.world.scene import ALLOWED, INTERVAL_S, Watch, assert_whole, declare, last_event, rows, scene, tell

pytestmark = pytest.mark.slow

FULL_S = 8.0
SHM_BYTES = 32768
"""What SQLite needs before it writes anything."""
KEEP_ALL = Retention(raw_s=1e9, minute_s=1e9, hour_s=1e9)


def test_the_disk_is_full_while_it_polls(
    tmp_path: Path, disk: Disk, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    with scene(tmp_path, declare(tmp_path, fakes), MACHINES_DATA_DIR=str(disk.data)) as seen:
        began = time.monotonic()
        disk.fill()
        word = seen.wait_for_word("full", began, 30)
        unknown_s = seen.wait_for_all("unknown", began, 30)
        time.sleep(FULL_S)
        assert not seen.server.get("/health/ready").ok
        ended = time.monotonic()
        disk.free()
        well_s = seen.wait_until_well(ended)
        gap_s = seen.longest_gap_s(began)
        assert gap_s < 2 * INTERVAL_S
        assert seen.unwritten(began, ended) == []
        assert seen.watch.failures == []
        tell(
            capsys,
            f"disk full: {word!r}, unknown after {unknown_s:.1f} s, well {well_s:.1f} s after there was room,"
            f" no host unasked for more than {gap_s:.1f} s, every sample polled meanwhile is there",
        )


@contextmanager
def _with_rollups_due(disk: Disk) -> Iterator[Path]:
    """A database with a past whose rollups are still to be rolled up."""
    path = disk.data / "telemetry.db"
    _a_past(path)
    with closing(sqlite3.connect(path)) as connection:
        for tier, step_s in TIER_STEPS_S.items():
            for samples in ("sample", "gpu_sample"):
                connection.execute(f"DELETE FROM {samples}_{tier}")
            connection.execute(
                f"INSERT OR IGNORE INTO rollup_due"
                f" SELECT {step_s}, at_ms / 1000 / {step_s} * {step_s}, machine_id FROM sample"
            )
        connection.commit()
    yield path


def test_the_disk_is_full_while_it_rolls_up(
    tmp_path: Path, disk: Disk, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(tmp_path, fakes)
    with _with_rollups_due(disk) as path:
        before, told, to_do = rows(path), last_event(path), _due(path)
        disk.fill(600_000)
        with RunningServer(tmp_path, MACHINES_DATA_DIR=str(disk.data)) as server, Watch(server) as watch:
            wait_until(lambda: "full" in str(server.get("/health").json()["store"]["message"]))
            word = server.get("/health").json()["store"]["message"]
            left = _due(path)
            assert 0 < left < to_do
            disk.free()
            began = time.monotonic()
            wait_until(lambda: server.get("/health/ready").ok)
            wait_until(lambda: {one["status"] for one in server.fleet().values()} == {"online"})
            well_s = time.monotonic() - began
            wait_until(lambda: not _due(path), 60)
        assert watch.seen() <= ALLOWED
        assert watch.failures == []
        assert_whole(path, before, told)
        with closing(sqlite3.connect(path)) as connection:
            assert rollups_that_differ(connection) == []
    tell(
        capsys,
        f"disk full during rollups, when {left} were due of {to_do} at first: {word!r}, well {well_s:.1f} s"
        " after; every rollup is exact",
    )


def _due(path: Path) -> int:
    with closing(open_reader(path)) as connection:
        past_s = time.time() - 2 * 3600
        (due,) = connection.execute("SELECT count(*) FROM rollup_due WHERE at_s < ?", (past_s,)).fetchone()
    return int(due)


def _a_past(path: Path) -> None:
    """Five hours of four hosts, the last an hour ago, with all rollups."""
    now_s = int(time.time())
    hosts = [Host(f"old{number}") for number in range(4)]
    fill(path, hosts, [Period(now_s - 6 * 3600, now_s - 3600, 20)], retention=KEEP_ALL)


class Older:
    """A database of an earlier version, and what of it must still be there in any later one."""

    def __init__(self, folder: Path, version: int) -> None:
        self.path, self.version = folder / f"version{version}.db", version
        if not (folder / "newer.db").exists():
            _a_past(folder / "newer.db")
        as_version(version, folder / "newer.db", self.path)
        with closing(sqlite3.connect(self.path)) as connection:
            self._columns = kept_columns(connection)
        del self._columns["rollup_due"]  # a migration may say that more is to be made
        self._content = self._read(self.path)
        assert self._content["sample"]

    def copy_to(self, path: Path) -> None:
        """Put it where a server looks for its database."""
        for there in path.parent.glob(f"{path.name}*"):
            there.unlink()
        shutil.copy(self.path, path)

    def version_of(self, path: Path, aside: Path) -> int:
        """The version of a database, which may be in use, that is whole and has all that this one has."""
        for end in ("", "-wal"):  # read where there is room for it
            if (there := path.with_name(path.name + end)).exists():
                shutil.copy(there, aside.with_name(aside.name + end))
        with closing(sqlite3.connect(aside)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (version,) = connection.execute("SELECT max(version) FROM schema_migrations").fetchone()
            schema = connection.execute(_SCHEMA).fetchall()
        assert self._read(aside) == self._content
        assert schema == _schema_of(version, aside.with_name("schema.db"))
        return int(version)

    def _read(self, path: Path) -> dict[str, list[Any]]:
        with closing(sqlite3.connect(path)) as connection:
            return {
                table: connection.execute(
                    f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2"
                ).fetchall()
                for table, columns in self._columns.items()
            }


_SCHEMA = "SELECT type, name, sql FROM sqlite_master ORDER BY name"


def _schema_of(version: int, path: Path) -> list[Any]:
    """What a new database of that version is made of."""
    path.unlink(missing_ok=True)
    migrate(path, known_migrations()[:version])
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(_SCHEMA).fetchall()


def _fault_of_migrating(path: Path) -> str | None:
    try:
        migrate(path)
    except StoreError as error:
        return str(error)
    return None


def test_wherever_a_migration_meets_a_full_disk_it_leaves_a_whole_version_and_all_rows(
    tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    path, newest, older = disk.data / "telemetry.db", len(known_migrations()), Older(tmp_path, 2)
    disk.data.mkdir(mode=0o700)
    stopped_at: dict[int, int] = {}
    for room in range(SHM_BYTES, 100 * BLOCK, BLOCK):
        older.copy_to(path)
        disk.fill(room)
        if fault := _fault_of_migrating(path):
            assert "full" in fault
            stopped_at[room] = older.version_of(path, tmp_path / "copy.db")
        disk.free()
        assert len(migrate(path)) == newest - stopped_at.get(room, newest)
        assert older.version_of(path, tmp_path / "copy.db") == newest
        if room not in stopped_at:
            break
    # Version 9 needs the most room; what comes after it fits into what it has left.
    assert set(stopped_at.values()) == set(range(older.version, 9))
    tell(
        capsys,
        f"disk full at {len(stopped_at)} moments of a migration from version {older.version}: every time the"
        " database was whole, had all rows, and was brought up to date once there was room",
    )


def test_the_disk_is_full_while_the_database_is_brought_up_to_date(
    tmp_path: Path, disk: Disk, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    path, newest, older = disk.data / "telemetry.db", len(known_migrations()), Older(tmp_path, 4)
    disk.data.mkdir(mode=0o700)
    (disk.data / "poller.lock").write_bytes(b" " * CONTENT_BYTES)
    older.copy_to(path)
    before, told = rows(path), last_event(path)
    disk.fill(SHM_BYTES + 3 * BLOCK)
    settings = {"MACHINES_DATA_DIR": str(disk.data)}
    refused = command("migrate", MACHINES_DIR=str(tmp_path), **settings)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert "full" in refused.stderr
    declare(tmp_path, fakes)
    with RunningServer(tmp_path, **settings) as server, Watch(server) as watch:
        wait_until(lambda: "full" in str(server.get("/health").json()["store"]["message"]))
        assert {one["status"] for one in server.fleet().values()} == {"unknown"}
        assert older.version_of(path, tmp_path / "copy.db") == older.version
        disk.free()
        began = time.monotonic()
        wait_until(lambda: {one["status"] for one in server.fleet().values()} == {"online"})
        well_s = time.monotonic() - began
        wait_until(lambda: not _due(path))
    assert watch.seen() <= ALLOWED
    assert watch.failures == []
    assert_whole(path, before, told)
    with closing(sqlite3.connect(path)) as connection:
        assert rollups_that_differ(connection) == []
        assert connection.execute("SELECT max(version) FROM schema_migrations").fetchone() == (newest,)
    tell(
        capsys,
        f"disk full during a migration: {refused.stderr.strip()!r}, {len(before)} samples of version"
        f" {older.version} all there, online {well_s:.1f} s after",
    )


def test_the_data_folder_becomes_read_only_and_all_workers_die(
    tmp_path: Path, disk: Disk, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    with scene(tmp_path, declare(tmp_path, fakes), MACHINES_DATA_DIR=str(disk.data)) as seen:
        # What is open to be written goes on being written, so that only new workers meet it.
        with _mounted_read_only(disk.path):
            time.sleep(3 * INTERVAL_S)
            assert seen.watch.seen() == {"online"}
            began = time.monotonic()
            for worker in psutil.Process(seen.server.process.pid).children():
                worker.kill()
            unknown_s = seen.wait_for_all("unknown", began, 20)
            word = seen.wait_for_word("store: ", began, 10)
            time.sleep(3 * INTERVAL_S)
        well_s = seen.wait_until_well(time.monotonic(), 30)
        tell(
            capsys,
            f"read-only when all workers die: {word!r}, unknown after {unknown_s:.1f} s,"
            f" well {well_s:.1f} s after",
        )


@contextmanager
def _mounted_read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_data_folder_that_is_read_only_from_the_start(
    tmp_path: Path, disk: Disk, fakes: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(tmp_path, fakes)
    disk.data.mkdir(mode=0o700)
    disk.set_read_only(is_so=True)
    with RunningServer(tmp_path, MACHINES_DATA_DIR=str(disk.data)) as server, Watch(server) as watch:
        wait_until(lambda: server.get("/health").json()["store"]["message"])
        word = server.get("/health").json()["store"]["message"]
        assert "cannot be written" in word
        assert {one["status"] for one in server.fleet().values()} == {"unknown"}
        disk.set_read_only(is_so=False)
        began = time.monotonic()
        wait_until(lambda: {one["status"] for one in server.fleet().values()} == {"online"})
        well_s = time.monotonic() - began
    assert watch.seen() <= ALLOWED
    assert watch.failures == []
    assert_whole(disk.data / "telemetry.db", set())
    tell(capsys, f"read-only from the start: {word!r}, online {well_s:.1f} s after")
