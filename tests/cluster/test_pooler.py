"""Servers work through PgBouncer, which forwards no announcements."""

from pathlib import Path

from tests.cluster.pooler import Pooler
from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.postgres import Postgres, folder_of_postgres
from tests.running import command, wait_for_status
from tests.store.promql.engines import Engine


def test_servers_behind_a_pooler_share_machines_and_leases(
    tmp_path: Path, postgres: Postgres, engine: Engine, fakes: FakeFleet
) -> None:
    url = postgres.new_database()
    with folder_of_postgres() as folder, Pooler(folder, postgres, url) as pooler:
        servers = Servers(tmp_path, pooler.url, engine)
        for number in range(8):
            text = machine_yaml(f"box{number}", fakes.sidecar(), fakes.ollama("phi3:mini"))
            (servers.machines / f"box{number}.yaml").write_text(text)
        with servers.server("a") as a, servers.server("b") as b:
            for number in range(8):
                wait_for_status(a, f"box{number}", "online")
                wait_for_status(b, f"box{number}", "online")
            wait_until(lambda: servers.are_divided(2), 60)
            lease = a.post("/api/leases", {"model": "phi3:mini"})
            assert lease.status_code == 201, lease.text
            wait_until(lambda: len(b.get("/api/leases").json()["leases"]) == 1)
            settings = {**servers.settings(), "MACHINES_DIR": str(servers.machines)}
            done = command("doctor", MACHINES_DATA_DIR=str(a.data), **settings)
            assert done.returncode == 0, done.stdout
            assert "warn  database: it is behind a pooler" in done.stdout
        servers.database.close()
