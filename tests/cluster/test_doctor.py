"""What `doctor` says about the stores of several servers, and what it advises."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from machines_server.store.postgres.migrate import known_migrations
from tests.bodies import http
from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.ports import free_port
from tests.postgres import STANDBY, Postgres, Standby, execute, folder_of_postgres, pair
from tests.running import command, wait_for_status
from tests.store.promql.engines import Engine

Found = Mapping[str, list[Mapping[str, str | None]]]


def examined(servers: Servers, status: int, **settings: str) -> Found:
    """What doctor finds, by what it is about."""
    folders = {"MACHINES_DIR": str(servers.machines), "MACHINES_DATA_DIR": str(servers.folder / "var")}
    done = command("doctor", "--json", **{**servers.settings(), **folders, **settings})
    assert done.returncode == status, done.stdout + done.stderr
    found: dict[str, list[Mapping[str, str | None]]] = {}
    for check in json.loads(done.stdout):
        found.setdefault(check["what"], []).append(check)
    return found


def only(found: Found, what: str) -> tuple[str | None, str, str]:
    """The verdict, the finding and the hint of the one check about something."""
    (check,) = found[what]
    return check["verdict"], check["finding"] or "", check["hint"] or ""


def test_servers_that_are_well_are_described(servers: Servers, fakes: FakeFleet) -> None:
    (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama()))
    with servers.server("a") as a, servers.server("b"):
        wait_for_status(a, "box", "online")
        wait_until(lambda: servers.are_divided(2), 60)
        servers.engine.flush()
        found = examined(servers, 0)
    assert only(found, "settings")[0] == "ok"
    assert only(found, "database")[:2] == ("ok", f"PostgreSQL {_version(servers)}, the primary")
    assert only(found, "clock") == ("ok", "the database's and this host's agree", "")
    verdict, finding, hint = only(found, "standbys")
    assert (verdict, finding.startswith("none: "), "docs/cluster.md" in hint) == ("warning", True, True)
    held = [check["finding"] or "" for check in found["pollers"]]
    parts = [re.fullmatch(r"process \d+ on \S+, since \S+Z, (\d+) shards", one) for one in held]
    assert len(parts) == 2
    assert sum(int(part[1]) for part in parts if part) == 256
    assert "shards" not in found
    assert [check["finding"] for check in found["history"]] == [
        f"{servers.engine.write_url} takes samples",
        f"{servers.engine.url} answers, and has samples of 1 machines",
    ]
    assert only(found, "machine files")[0] == "ok"
    assert [check["verdict"] for name in ("box sidecar", "box ollama") for check in found[name]] == ["ok"] * 2
    assert not found.keys() & {"SQLite", "poller"}


def test_servers_with_other_machine_files_are_named(servers: Servers, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with servers.server("a"):
        wait_until(lambda: servers.are_divided(1))
        (other / "box.yaml").write_text(machine_yaml("box", None, None))
        found = examined(servers, 0, MACHINES_DIR=str(other))
    (warning,) = [check for check in found["machine files"] if check["verdict"] == "warning"]
    assert "differ from those here" in (warning["finding"] or "")


def test_no_poller_and_shards_of_a_dead_one_are_told(servers: Servers) -> None:
    assert only(examined(servers, 0), "pollers")[1] == "no poller of the site default is running"
    with servers.database.transaction() as connection:
        connection.execute(
            "INSERT INTO poller"
            " (id, site, server, pid, since_ms, expires_at_ms, files, interval_s, timeout_s)"
            " VALUES ('x', 'default', 'elsewhere', 7, 0, now_ms() + 60000, '', 5, 2)"
        )
        connection.execute("INSERT INTO shard (site, number) SELECT 'default', generate_series(0, 255)")
    found = examined(servers, 0)
    assert only(found, "pollers")[1] == "process 7 on elsewhere, since 1970-01-01T00:00:00.000Z, 0 shards"
    assert only(found, "shards")[:2] == ("warning", "no poller holds 256 of 256 shards")


def test_a_schema_that_is_older_or_newer_is_told(servers: Servers) -> None:
    last = known_migrations()[-1]
    servers.rows("DELETE FROM schema_migrations WHERE version = %s RETURNING 1", last.version)
    found = examined(servers, 0)["database"][1]
    assert (found["finding"], found["hint"]) == (
        f"it lacks {last.name}",
        "`machines-server migrate`, or start a server",
    )
    later = last.version, "later.sql", ""
    servers.rows("INSERT INTO schema_migrations VALUES (%s, %s, %s) RETURNING 1", *later)
    found = examined(servers, 1)["database"][1]
    assert found["verdict"] == "error"
    assert "another later.sql than the one installed" in (found["finding"] or "")


def test_what_is_away_is_told_and_nothing_waits_for_ever(servers: Servers, fakes: FakeFleet) -> None:
    silent = fakes.deaf()
    url = f"http://{silent.address}:{silent.port}"
    found = examined(
        servers,
        1,
        MACHINES_DATABASE_URL=f"postgresql://machines@{silent.address}:{silent.port}/machines",
        MACHINES_REMOTE_WRITE_URL=f"{url}/api/v1/write",
        MACHINES_QUERY_URL=url,
    )
    verdict, finding, hint = only(found, "database")
    assert (verdict, bool(hint)) == ("error", True)
    assert "PostgreSQL cannot be reached" in finding
    assert [check["verdict"] for check in found["history"]] == ["error"] * 2
    assert all("does not answer: no " in (check["finding"] or "") for check in found["history"])


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (http(b"{}", status="500 Oops"), "answers a query with HTTP status 500"),
        (http(b'{"status": "success"}'), "does not answer a query as Prometheus does"),
        (http(b"<html>"), "does not answer a query as Prometheus does"),
    ],
)
def test_an_engine_that_is_none_is_told(
    servers: Servers, fakes: FakeFleet, body: bytes, finding: str
) -> None:
    odd = fakes.listen(body)
    url = f"http://{odd.address}:{odd.port}"
    found = examined(servers, 1, MACHINES_QUERY_URL=url)
    assert found["history"][1]["finding"] == f"{url} {finding}"
    refusing = fakes.listen(http(b"no", status="401 Unauthorized"))
    url = f"http://{refusing.address}:{refusing.port}/write"
    found = examined(servers, 1, MACHINES_REMOTE_WRITE_URL=url)
    assert found["history"][0]["finding"] == f"{url} answers a remote write with HTTP status 401"


def test_an_engine_that_gets_no_samples_is_told(servers: Servers) -> None:
    verdict, finding, hint = [
        (check["verdict"], check["finding"] or "", check["hint"] or "")
        for check in examined(servers, 0, MACHINES_SITE="nobody")["history"]
    ][1]
    assert (verdict, "at one engine" in hint) == ("warning", True)
    assert finding.endswith("has no sample of the site nobody from the last 10m")


def test_files_of_secrets_are_checked(servers: Servers, tmp_path: Path) -> None:
    secret, empty = tmp_path / "secret", tmp_path / "empty"
    secret.write_text("hunter2\n")
    secret.chmod(0o644)
    empty.write_text("")
    empty.chmod(0o600)
    found = examined(
        servers,
        1,
        MACHINES_DATABASE_PASSWORD_FILE=str(secret),
        MACHINES_REMOTE_WRITE_CREDENTIAL_FILE=str(empty),
        MACHINES_QUERY_CREDENTIAL_FILE=str(tmp_path / "nowhere"),
    )
    told = [(check["verdict"], check["finding"], check["hint"]) for check in found["credentials"]]
    assert told == [
        ("warning", f"other users can read or change {secret} (mode 0644)", f"chmod go= {secret}"),
        (
            "error",
            f"{empty} cannot be used: its first line is empty; expected a token or user:password",
            "see MACHINES_REMOTE_WRITE_CREDENTIAL_FILE",
        ),
        (
            "error",
            f"{tmp_path / 'nowhere'} cannot be used: No such file or directory",
            "see MACHINES_QUERY_CREDENTIAL_FILE",
        ),
    ]
    secret.chmod(0o600)
    good = dict.fromkeys(
        (
            "MACHINES_DATABASE_PASSWORD_FILE",
            "MACHINES_REMOTE_WRITE_CREDENTIAL_FILE",
            "MACHINES_QUERY_CREDENTIAL_FILE",
        ),
        str(secret),
    )
    assert "credentials" not in examined(servers, 0, **good)


@pytest.fixture
def replicated(tmp_path: Path, engine: Engine) -> Iterator[tuple[Servers, Postgres, Standby]]:
    """Servers whose database has a synchronous standby."""
    with folder_of_postgres() as folder, pair(folder) as (primary, standby, url):
        yield Servers(tmp_path, url, engine), primary, standby


def test_a_standby_that_leases_do_not_wait_for_is_a_loud_warning(
    replicated: tuple[Servers, Postgres, Standby],
) -> None:
    servers, primary, standby = replicated
    assert only(examined(servers, 0), "standbys") == ("ok", f"{STANDBY} synchronous, of 1", "")

    execute(primary, "CREATE ROLE plain LOGIN")
    execute(primary, "GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
    as_plain = servers.database_url.replace("postgres@", "plain@")
    _, finding, hint = only(examined(servers, 1, MACHINES_DATABASE_URL=as_plain), "standbys")
    assert finding == f"leases wait for '{STANDBY}'; this role may not see whether it is connected"
    assert hint == "GRANT pg_read_all_stats to the role to enable this check"

    execute(primary, "ALTER SYSTEM SET synchronous_standby_names = 'another'")
    execute(primary, "SELECT pg_reload_conf()")
    wait_until(lambda: "which none of s1 is" in only(examined(servers, 1), "standbys")[1])

    execute(primary, "ALTER SYSTEM RESET synchronous_standby_names")
    execute(primary, "SELECT pg_reload_conf()")
    wait_until(lambda: "NONE IS SYNCHRONOUS" in only(examined(servers, 0), "standbys")[1])
    verdict, finding, hint = only(examined(servers, 0), "standbys")
    assert verdict == "warning"
    assert finding == "s1, and NONE IS SYNCHRONOUS: a failover loses leases that were granted"
    assert hint == "set synchronous_standby_names on the primary, as docs/cluster.md shows"

    execute(primary, f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
    execute(primary, "SELECT pg_reload_conf()")
    standby.kill()
    wait_until(lambda: only(examined(servers, 1), "standbys")[1].startswith("none is connected, but"))


def test_a_database_that_is_a_standby_is_an_error(replicated: tuple[Servers, Postgres, Standby]) -> None:
    servers, _, standby = replicated
    path = urlsplit(servers.database_url).path.lstrip("/")
    url = f"{standby.url(path)}?target_session_attrs=any"
    found = examined(servers, 1, MACHINES_DATABASE_URL=url)
    assert (
        found["database"][0]["finding"]
        == f"PostgreSQL {_version(servers)}, a standby, which cannot be written"
    )
    found = examined(servers, 1, MACHINES_DATABASE_URL=standby.url(path))
    assert "PostgreSQL cannot be reached" in only(found, "database")[1]


def test_a_database_that_refuses_connections_is_told(servers: Servers) -> None:
    found = examined(
        servers, 1, MACHINES_DATABASE_URL=f"postgresql://machines@127.0.0.1:{free_port()}/machines"
    )
    assert "Connection refused" in only(found, "database")[1]


def _version(servers: Servers) -> str:
    ((number,),) = servers.rows("SELECT current_setting('server_version_num')::int")
    return f"{number // 10_000}.{number % 10_000}"
