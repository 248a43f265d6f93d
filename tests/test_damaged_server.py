"""A server whose database is damaged while it runs says so, and continues with a new one if configured."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, command, wait_for_status

PAGE = 4096


def cut(path: Path) -> None:
    os.truncate(path, 2 * PAGE)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def flipped(path: Path) -> None:
    """Some bits of every page; a second call changes nothing more."""
    with path.open("r+b") as file:
        content = bytearray(file.read())
        for at in range(0, len(content), 97):
            content[at] |= 0x55
        file.seek(0)
        file.write(content)


def no_texts(path: Path) -> None:
    """The statements that made the tables are no UTF-8."""
    content = path.read_bytes().replace(b"CREATE TABLE", b"CREATE\xffTABLE")
    with path.open("r+b") as file:
        file.write(content)


def damage_for_good(server: RunningServer, damage: Callable[[Path], None]) -> None:
    """Damage the database until the writer has noticed.

    What is in the log would mend the file later, and so would a page that the writer is about to write.
    """
    path = server.data / "telemetry.db"

    def is_noticed() -> bool:
        with (
            suppress(sqlite3.DatabaseError, UnicodeDecodeError),
            closing(sqlite3.connect(path)) as connection,
        ):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(path)
        return "unwritten polls are kept" in server.log.read_text()

    wait_until(is_noticed)


def declared(folder: Path, fakes: FakeFleet) -> None:
    (folder / "machines").mkdir()
    (folder / "machines" / "one.yaml").write_text(machine_yaml("one", fakes.sidecar(), fakes.ollama("m")))


@pytest.mark.parametrize("damage", [flipped, no_texts])
def test_it_is_not_ready_and_says_what_helps(
    tmp_path: Path, fakes: FakeFleet, damage: Callable[[Path], None]
) -> None:
    declared(tmp_path, fakes)
    with RunningServer(tmp_path) as server:
        wait_for_status(server, "one", "online")
        damage_for_good(server, damage)
        wait_until(lambda: server.get("/health/ready").status_code == 503)

        def says_what_helps() -> bool:
            said = server.get("/health").json()["store"]
            return said["state"] == "error" and "MACHINES_ON_DAMAGE=new" in said["message"]

        wait_until(says_what_helps)
        wait_for_status(server, "one", "unknown", 15)
        for path in ("/api/machines/one/history", "/api/events", "/api/models", "/api/infrastructure"):
            answer = server.get(path)
            assert answer.status_code in (200, 503), answer.text
            assert answer.json()
        assert server.get("/health/ready").status_code == 503
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("damage", [cut, emptied])
def test_it_goes_on_with_a_new_one_when_it_is_told_to(
    tmp_path: Path, fakes: FakeFleet, damage: Callable[[Path], None]
) -> None:
    declared(tmp_path, fakes)
    with RunningServer(tmp_path, MACHINES_ON_DAMAGE="new") as server:
        wait_for_status(server, "one", "online")
        damage(server.data / "telemetry.db")
        wait_until(lambda: list(server.data.glob("telemetry.db.damaged-*Z")))
        wait_until(lambda: server.get("/health/ready").status_code == 200)
        wait_for_status(server, "one", "online")
        assert server.get("/api/machines/one/history").status_code == 200


def test_it_does_not_start_on_a_damaged_one_unless_it_may_begin_a_new_one(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    declared(tmp_path, fakes)
    server = RunningServer(tmp_path, MACHINES_ON_DAMAGE="new")
    server.data.mkdir()
    (server.data / "telemetry.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
    ended = command("serve", **server.settings | {"MACHINES_ON_DAMAGE": "stop"})
    assert ended.returncode == 1
    assert "MACHINES_ON_DAMAGE=new" in ended.stderr
    assert "Traceback" not in ended.stderr
    with server:
        wait_for_status(server, "one", "online")
        assert list(server.data.glob("telemetry.db.damaged-*Z"))


@pytest.mark.parametrize("take_away", [Path.unlink, lambda path: path.rename(path.with_name("kept"))])
def test_it_goes_on_with_a_new_one_when_the_old_one_is_deleted_or_moved_away_without_its_log(
    tmp_path: Path, fakes: FakeFleet, take_away: Callable[[Path], object]
) -> None:
    declared(tmp_path, fakes)
    with RunningServer(tmp_path) as server:
        wait_for_status(server, "one", "online")
        take_away(server.data / "telemetry.db")
        wait_until(lambda: "creating a new one" in server.log.read_text())
        wait_until(lambda: server.get("/health/ready").status_code == 200)
        wait_for_status(server, "one", "online")
        assert list(server.data.glob("telemetry.db.damaged-*Z-wal"))
        assert "I/O error" not in server.log.read_text()
