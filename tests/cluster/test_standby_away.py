"""Servers whose only synchronous standby is away: machines are polled, and no lease is promised."""

from pathlib import Path

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.postgres import execute, folder_of_postgres, pair
from tests.running import RunningServer, wait_for_status
from tests.store.promql.engines import Engine

WARNING = "Leases cannot be changed: PostgreSQL"


def lease_and_warning(server: RunningServer) -> tuple[int, bool]:
    """The status of a request for a lease, and whether `/health` says that none can be changed."""
    status = server.post("/api/leases", {"model": "phi3"}).status_code
    return status, any(one.startswith(WARNING) for one in server.get("/health").json()["warnings"])


def test_health_says_why_no_lease_can_be_changed(tmp_path: Path, engine: Engine, fakes: FakeFleet) -> None:
    with folder_of_postgres() as folder, pair(folder) as (primary, standby, url):
        servers = Servers(tmp_path, url, engine)
        (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3")))
        with servers.server("a") as server:
            wait_for_status(server, "box", "online")
            assert lease_and_warning(server) == (201, False)
            standby.kill()
            wait_until(lambda: lease_and_warning(server) == (503, True), 60)
            assert server.get("/health/ready").ok
            assert server.fleet()["box"]["status"] == "online"
            execute(primary, "ALTER SYSTEM RESET synchronous_standby_names")
            execute(primary, "SELECT pg_reload_conf()")
            wait_until(lambda: lease_and_warning(server) == (201, False), 60)
        servers.database.close()
