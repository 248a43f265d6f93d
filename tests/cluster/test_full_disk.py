"""The disk of PostgreSQL is full: no host is blamed, and no granted lease is lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.postgres import USER, Postgres, folder_of_postgres
from tests.running import RunningServer, wait_for_status
from tests.store.promql.engines import Engine
from tests.tools import tool
from tests.world.conftest import Disk

SIZE = "160m"
"""Of the disk: enough for a new PostgreSQL and its log of writes."""


@pytest.fixture
def disk() -> Iterator[Disk]:
    with folder_of_postgres() as folder:
        path = folder / "disk"
        path.mkdir()
        words = tool("mount"), "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        if not os.getuid():
            shutil.chown(path, USER, USER)
        try:
            yield Disk(path)
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


def is_refused(server: RunningServer, granted: set[str]) -> bool:
    """Whether leases are refused because of PostgreSQL; adds one that is granted."""
    answer = server.post("/api/leases", {"model": "phi3", "ttl_s": 600})
    if answer.status_code == 201:
        granted.add(answer.json()["lease"])
    return answer.status_code == 503 and "PostgreSQL" in answer.json()["message"]


def has_ended(database: Postgres) -> bool:
    try:
        psycopg.connect(database.url(), connect_timeout=2).close()
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.slow
def test_the_disk_of_the_database_is_full(
    tmp_path: Path, disk: Disk, engine: Engine, fakes: FakeFleet
) -> None:
    options = {"min_wal_size": "32MB", "max_wal_size": "32MB"}
    with ExitStack() as stack:
        database = stack.enter_context(Postgres(disk.path / "data", None, **options))
        servers = Servers(tmp_path, database.new_database(), engine)
        (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3")))
        server = stack.enter_context(servers.server("a"))
        wait_for_status(server, "box", "online")
        granted = set[str]()
        assert not is_refused(server, granted)
        disk.fill()
        wait_until(lambda: is_refused(server, granted))
        wait_until(lambda: server.get("/health").json()["store"]["state"] == "error")
        assert "PostgreSQL" in server.get("/health").json()["store"]["message"]
        assert server.fleet()["box"]["status"] in ("online", "unknown")
        disk.free()
        if has_ended(database):  # without room for its log, PostgreSQL ends itself
            database.kill()
            stack.enter_context(database)
        wait_for_status(server, "box", "online")
        assert granted <= {one["lease"] for one in server.get("/api/leases").json()["leases"]}
        wait_until(lambda: server.get("/health/ready").ok)
        assert servers.rows("SELECT FROM event WHERE type = 'offline'") == []
        servers.database.close()
