"""Migrations: whole or not at all, once, in order, and never on a database that is not ours."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from machines_server.errors import MigrationError, StoreError
from machines_server.store.migration_files import Migration
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import known_migrations, migrate, pending

FIRST = Migration(1, "0001_one.sql", "CREATE TABLE one (x INTEGER) STRICT;\n")
SECOND = Migration(2, "0002_two.sql", "CREATE TABLE two (x INTEGER) STRICT;\nINSERT INTO two VALUES (1);\n")


def tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return names


def test_a_new_database_gets_every_migration_of_this_version(tmp_path: Path) -> None:
    path = tmp_path / "new" / "telemetry.db"
    assert migrate(path) == [one.name for one in known_migrations()]
    assert pending(path) == []
    assert {"machine", "latest", "sample", "gpu_sample", "model_span", "schema_migrations"} <= tables(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    migrate(path)
    before = path.read_bytes()
    assert migrate(path) == []
    assert path.read_bytes() == before


def test_only_what_is_missing_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    assert migrate(path, [FIRST]) == ["0001_one.sql"]
    assert pending(path, [FIRST, SECOND]) == ["0002_two.sql"]
    assert migrate(path, [FIRST, SECOND]) == ["0002_two.sql"]
    assert tables(path) == {"one", "two", "schema_migrations"}


def test_a_migration_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    broken = Migration(2, "0002_two.sql", SECOND.sql + "INSERT INTO nowhere VALUES (1);\n")
    migrate(path, [FIRST])
    with pytest.raises(StoreError, match="nowhere"):
        migrate(path, [FIRST, broken])
    assert tables(path) == {"one", "schema_migrations"}
    assert migrate(path, [FIRST, SECOND]) == ["0002_two.sql"]


def test_a_database_that_is_newer_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    migrate(path, [FIRST, SECOND])
    with pytest.raises(MigrationError, match=r"newer than this version.*0002_two"):
        migrate(path, [FIRST])
    assert "two" in tables(path)


def test_a_changed_migration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    migrate(path, [FIRST])
    with pytest.raises(MigrationError, match="another 0001_one"):
        migrate(path, [Migration(1, FIRST.name, FIRST.sql + "-- a word more\n"), SECOND])


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(MigrationError, match="not created by machines-server"):
        migrate(path)
    assert tables(path) == {"theirs"}


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        migrate(path)
    assert path.read_bytes() == b"not a database" * 100


def test_several_processes_that_start_at_once_apply_each_migration_once(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    code = (
        "import sys, pathlib, machines_server.store.sqlite.migrate as m; m.migrate(pathlib.Path(sys.argv[1]))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(6)]
    assert [process.wait(timeout=30) for process in started] == [0] * 6
    connection = sqlite3.connect(path)
    count = connection.execute("SELECT count(*) FROM schema_migrations").fetchone()[0]
    assert count == len(known_migrations())
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()


def test_the_writer_connection_is_set_up_for_a_crash_and_for_giving_space_back(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    migrate(path)
    connection = open_writer(path)
    modes = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "auto_vacuum")
    ]
    connection.close()
    assert modes == ["wal", 1, 2]


HOUR_MS = 3_600_000
OLD_SAMPLES = [
    (1, 10_000, "ok", "ok"),
    (1, 15_000, "ok", "busy"),
    (1, 20_000, "ok", "busy"),
    (1, HOUR_MS, "ok", "busy"),
    (1, HOUR_MS + 5000, "ok", None),
    (1, HOUR_MS + 10_000, "unreachable", None),
    (2, 10_000, None, "error"),
]
OLD_LATEST = [
    ("sidecar", "http://h:3039/metrics", "{}"),
    ("ollama", "http://h:11434/api/ps", '[{"model":"m"}]'),
]


def test_states_of_endpoints_become_rows_and_the_latest_answers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    migrate(path, known_migrations()[:8])
    with closing(sqlite3.connect(path)) as connection:
        for number in (1, 2):
            row = (number, f"m{number}", "m.yaml", "{}", 0, None)
            connection.execute("INSERT INTO machine VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.executemany(
            "INSERT INTO sample (machine_id, at_ms, sidecar, ollama, up, poll_s) VALUES (?, ?, ?, ?, 1, 5)",
            OLD_SAMPLES,
        )
        connection.executemany(
            "INSERT INTO latest (machine_id, endpoint, url, state, polled_at_ms, answered_at_ms, answer,"
            " revision) VALUES (1, ?, ?, 'ok', 20000, 20000, ?, 7)",
            OLD_LATEST,
        )
        connection.execute("INSERT INTO library VALUES (1, 'http://h:11434/api/tags', 1, 1, 3, '[]')")
        connection.commit()
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT machine_id, endpoint, at_ms, state FROM endpoint_state ORDER BY 1, 2, 3"
        )
        assert rows.fetchall() == [
            *((1, "ollama", 10_000, "ok"), (1, "ollama", 15_000, "busy"), (1, "ollama", HOUR_MS, "busy")),
            (1, "ollama", HOUR_MS + 5000, None),
            *((1, "sidecar", 10_000, "ok"), (1, "sidecar", HOUR_MS, "ok")),
            (1, "sidecar", HOUR_MS + 10_000, "unreachable"),
            (2, "ollama", 10_000, "error"),
        ]
        assert connection.execute("SELECT machine_id, at_ms, up, poll_s FROM sample").fetchall() == [
            (machine, at_ms, 1, 5) for machine, at_ms, *_ in OLD_SAMPLES
        ]
        latest = connection.execute(
            "SELECT endpoint, url, host, models, revision FROM latest ORDER BY 1 DESC"
        )
        assert latest.fetchall() == [
            ("sidecar", "http://h:3039", "{}", None, 7),
            ("ollama", "http://h:11434", None, '[{"model":"m"}]', 7),
        ]
        assert connection.execute("SELECT url FROM library").fetchall() == [("http://h:11434",)]
