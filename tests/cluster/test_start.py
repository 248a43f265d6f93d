"""How a server in a cluster starts, and how it treats the schema of the database."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.ports import free_port
from tests.postgres import USER, Gate, Postgres, through
from tests.running import RunningServer, clean_environment, command, wait_for_status

SEEN = """
import sys
from machines_server.process.compose import make_asgi, make_poller
from machines_server.settings import load_settings
settings, _ = load_settings()
make_asgi(settings); make_poller(settings)
import machines_server.cli.serve, machines_server.cli.database, machines_server.cli.doctor
for name in sys.modules:
    if name.partition(".")[0] in ("psycopg", "psycopg_pool", "cramjam"):
        raise SystemExit(name)
"""
NEWER = "INSERT INTO schema_migrations (version, name, sha256) VALUES (9999, '9999_later.sql', '')"


def empty_database(postgres: Postgres) -> str:
    """The URL of a database that nobody has migrated."""
    name = f"empty{free_port()}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres.url(name)


def is_migrated(url: str) -> bool:
    with psycopg.connect(url) as connection:
        ((name,),) = connection.execute("SELECT to_regclass('shard')::text").fetchall()
    return name is not None


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def test_a_server_of_its_own_imports_nothing_that_several_need(tmp_path: Path) -> None:
    environment = clean_environment(MACHINES_DIR=str(tmp_path), MACHINES_DATA_DIR=str(tmp_path / "var"))
    subprocess.run([sys.executable, "-c", SEEN], env=environment, check=True, timeout=60)


@pytest.mark.parametrize("word", ["serve", "poll"])
def test_a_start_migrates_the_database_and_makes_no_file_of_sqlite(
    servers: Servers, postgres: Postgres, fakes: FakeFleet, word: str
) -> None:
    servers.database_url = empty_database(postgres)
    text = machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3:mini"))
    (servers.machines / "box.yaml").write_text(text)
    with servers.server("a", MACHINES_POLLER="auto" if word == "serve" else "off") as a:
        poller = RunningServer(servers.folder / "a", command="poll", **a.settings)
        with poller if word == "poll" else nullcontext():
            wait_for_status(a, "box", "online")
        assert "applied 0001_several_servers.sql" in a.log.read_text()
        made = sorted(path.name for path in a.data.iterdir())
    assert is_migrated(servers.database_url)
    assert not [name for name in made if ".db" in name or ".lock" in name], made


def test_a_server_that_is_older_than_the_schema_says_so_and_stops(servers: Servers) -> None:
    execute(servers.database_url, NEWER)
    for word in ("serve", "poll", "migrate"):
        done = command(word, MACHINES_PORT=str(free_port()), **servers.settings(), **own_folder(servers))
        assert done.returncode == 1
        line = done.stderr.splitlines()[-1]
        assert "the database is newer than this version: it has 9999_later.sql" in line


def test_a_server_that_polls_stops_polling_when_a_newer_one_has_migrated(
    servers: Servers, fakes: FakeFleet
) -> None:
    (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama()))
    with servers.server("a") as a:
        wait_for_status(a, "box", "online")
        execute(servers.database_url, NEWER)
        wait_until(lambda: "this process cannot poll: the database is newer" in a.log.read_text())
        assert servers.owners() == {}
        log = a.log.read_text()
        assert "9999_later.sql, which is not known here" in log
        assert "this process stops polling, and another one may poll" in log
        assert "lock was deleted" not in log
        assert a.get("/api/infrastructure").status_code == 200


def test_a_server_starts_without_its_database_and_works_once_it_is_there(
    servers: Servers, postgres: Postgres, fakes: FakeFleet
) -> None:
    url = empty_database(postgres)
    gate = Gate(postgres.port)
    gate.shut()
    servers.database_url = through(url, gate.port)
    (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama()))
    with servers.server("a") as a:
        wait_for_status(a, "box", "unknown")
        health = a.get("/health").json()
        assert health["store"]["state"] == "error"
        assert "PostgreSQL cannot be reached" in health["store"]["message"]
        assert a.get("/health/ready").status_code == 503
        assert "retrying, and until then all machines are unknown" in a.log.read_text()
        gate.open()
        wait_for_status(a, "box", "online")
        assert a.get("/health/ready").status_code == 200
    gate.close()


@pytest.mark.parametrize("library", ["psycopg", "psycopg_pool", "cramjam"])
def test_without_the_packages_commands_say_what_to_install(
    servers: Servers, tmp_path: Path, library: str
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / f"{library}.py").write_text(f"raise ModuleNotFoundError('none', name='{library}')")
    for word in ("serve", "poll", "migrate"):
        done = command(word, PYTHONPATH=str(hidden), **servers.settings(), **own_folder(servers))
        assert done.returncode == 2
        line = done.stderr.splitlines()[-1]
        assert "pip install 'machines-server[cluster]'" in line
    done = command("doctor", PYTHONPATH=str(hidden), **servers.settings(), **own_folder(servers))
    assert done.returncode == 1
    assert "FAIL  settings: MACHINES_DATABASE_URL needs packages" in done.stdout


def test_migrate_migrates_the_database_of_several_servers(servers: Servers, postgres: Postgres) -> None:
    servers.database_url = empty_database(postgres)
    settings = {**servers.settings(), **own_folder(servers)}
    done = command("migrate", **settings)
    assert done.stdout.startswith("applied 0001_several_servers.sql\n"), done.stderr
    assert command("migrate", **settings).stdout == "the PostgreSQL database is up to date\n"
    assert not (servers.folder / "var").exists()


def test_backup_says_what_to_use_instead(servers: Servers, tmp_path: Path) -> None:
    done = command("backup", str(tmp_path / "copy.db"), **servers.settings(), **own_folder(servers))
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    for word in ("pg_basebackup", "pg_dump", "/snapshot/create", "/api/v1/admin/tsdb/snapshot"):
        assert word in line
    assert not (tmp_path / "copy.db").exists()


def own_folder(servers: Servers) -> dict[str, str]:
    """Folders for a command."""
    return {"MACHINES_DIR": str(servers.machines), "MACHINES_DATA_DIR": str(servers.folder / "var")}


def test_a_role_that_owns_nothing_is_enough_once_the_database_is_migrated(
    servers: Servers, fakes: FakeFleet
) -> None:
    role = f"plain{free_port()}"
    execute(servers.database_url, f"CREATE ROLE {role} LOGIN")
    for granted in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
        execute(servers.database_url, f"GRANT {granted} ON ALL TABLES IN SCHEMA public TO {role}")
    servers.database_url = servers.database_url.replace(f"{USER}@", f"{role}@")
    text = machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3:mini"))
    (servers.machines / "box.yaml").write_text(text)
    with servers.server("a") as a:
        wait_for_status(a, "box", "online")
        lease = a.post("/api/leases", {"model": "phi3:mini"})
        assert lease.status_code == 201, lease.text
        assert not [line for line in a.log.read_text().splitlines() if " ERROR " in line]
