"""Servers whose database loses tables, rights or its latest hours while they run."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.postgres import USER, Postgres, program
from tests.running import RunningServer, command, wait_for_status
from tests.store.promql.engines import Engine

ROLE = "fleet"


@pytest.fixture
def servers(tmp_path: Path, postgres: Postgres, engine: Engine, fakes: FakeFleet) -> Servers:
    """Servers with a role that is no superuser, and one machine."""
    url = postgres.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchall():
            connection.execute(f"CREATE ROLE {ROLE} LOGIN")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
    made = Servers(tmp_path, url, engine)
    (made.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3")))
    return made


@pytest.fixture
def two(servers: Servers) -> Iterator[Sequence[RunningServer]]:
    parts = urlsplit(servers.database_url)
    url = urlunsplit(parts._replace(netloc=parts.netloc.replace(USER, ROLE)))
    with ExitStack() as stack:
        made = [stack.enter_context(servers.server(name, MACHINES_DATABASE_URL=url)) for name in ("a", "b")]
        for server in made:
            wait_for_status(server, "box", "online")
        wait_until(lambda: servers.are_divided(2))
        yield made


def names(server: RunningServer, fault: str) -> bool:
    """Whether a server names a fault of the database, and blames no host."""
    assert server.fleet()["box"]["status"] in ("online", "unknown")
    return fault in str(server.get("/health").json()["store"]["message"])


def tells(server: RunningServer, fault: str) -> bool:
    """Whether it also tells the fault as the reason for what is not known of a machine."""
    return names(server, fault) and fault in str(server.fleet()["box"]["status_reason"])


def recovers(server: RunningServer) -> None:
    """Wait until a server polls, grants leases and calls itself ready."""
    wait_for_status(server, "box", "online")
    wait_until(lambda: server.post("/api/leases", {"model": "phi3"}).status_code == 201)
    wait_until(lambda: server.get("/health/ready").status_code == 200)


def polled_at(server: RunningServer) -> str:
    found: str = server.fleet()["box"]["sampled_at"]
    return found


def is_polled_since(server: RunningServer, at: str) -> bool:
    return polled_at(server) > at


def superuser(servers: Servers) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(servers.database_url, autocommit=True)


@pytest.mark.slow
def test_a_role_that_loses_its_rights_is_named_and_may_get_them_back(
    servers: Servers, two: Sequence[RunningServer]
) -> None:
    with superuser(servers) as connection:
        connection.execute(f"REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM {ROLE}")
        for server in two:
            wait_until(partial(tells, server, "the role lacks rights"))
        done = command("doctor", **two[0].settings)
        assert "this role may not write copied, " in done.stdout
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
    for server in two:
        recovers(server)


@pytest.mark.slow
def test_a_role_that_may_make_no_temporary_tables_is_named(
    servers: Servers, two: Sequence[RunningServer]
) -> None:
    with superuser(servers) as connection:
        name = connection.info.dbname
        connection.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC, {ROLE}".encode())
    done = command("doctor", **two[0].settings)
    assert "FAIL  database: this role may not make temporary tables" in done.stdout


@pytest.mark.slow
def test_a_table_that_was_dropped_is_named(servers: Servers, two: Sequence[RunningServer]) -> None:
    with superuser(servers) as connection:
        connection.execute("DROP TABLE latest")
    for server in two:
        wait_until(partial(names, server, "lacks tables of this version"))
    assert "FAIL  database: it has lost the tables latest" in command("doctor", **two[0].settings).stdout


@pytest.mark.slow
def test_a_database_that_was_emptied_is_filled_again(servers: Servers, two: Sequence[RunningServer]) -> None:
    with superuser(servers) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        for server in two:
            wait_until(partial(tells, server, "lacks tables of this version"))
        connection.execute("CREATE SCHEMA public")
        connection.execute(f"GRANT ALL ON SCHEMA public TO {ROLE}")
    for server in two:
        recovers(server)
    wait_until(lambda: servers.are_divided(2))


@pytest.mark.slow
def test_a_backup_that_is_restored_under_running_servers_is_followed(
    servers: Servers, two: Sequence[RunningServer], tmp_path: Path
) -> None:
    dump = tmp_path / "dump.sql"
    words = program("pg_dump"), "--clean", f"--file={dump}", servers.database_url
    subprocess.run(words, check=True, timeout=60)
    before_at = polled_at(two[0])
    wait_until(lambda: polled_at(two[0]) > before_at)
    restore = program("psql"), "--quiet", "--single-transaction", f"--file={dump}", servers.database_url
    subprocess.run(restore, check=True, timeout=60, stdout=subprocess.DEVNULL)
    restored_at = polled_at(two[0])
    for server in two:
        wait_until(partial(is_polled_since, server, restored_at))
        recovers(server)
    wait_until(lambda: servers.are_divided(2))
    assert servers.rows("SELECT FROM event WHERE type = 'offline'") == []


@pytest.mark.slow
def test_a_backup_of_an_older_version_is_migrated(servers: Servers, two: Sequence[RunningServer]) -> None:
    with superuser(servers) as connection:
        connection.execute(f"GRANT ALL ON SCHEMA public TO {ROLE}")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
        connection.execute(
            "BEGIN; DROP TABLE copied; DELETE FROM schema_migrations WHERE version = 6; COMMIT"
        )
    wait_until(lambda: servers.rows("SELECT FROM schema_migrations WHERE version = 6"))
    wait_until(lambda: servers.are_divided(2))
    for server in two:
        recovers(server)
