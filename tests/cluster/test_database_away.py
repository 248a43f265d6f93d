"""The database crashes or hangs: nothing is blamed on a host, and nothing is promised meanwhile."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from bench.simulation import simulated
from machines_server.store.postgres.database import CONNECT_WAIT_S
from tests.cluster.servers import Servers
from tests.fakes import wait_until
from tests.postgres import Postgres, folder_of_postgres
from tests.running import RunningServer
from tests.store.promql.engines import victoria_metrics

HOSTS = 5


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Servers, Postgres]]:
    with ExitStack() as stack:
        folder = stack.enter_context(folder_of_postgres())
        database = Postgres(folder / "data")
        stack.enter_context(database)
        engine = stack.enter_context(victoria_metrics(tmp_path / "engine"))
        fleet = stack.enter_context(simulated(HOSTS))
        servers = Servers(tmp_path, database.new_database(), engine)
        stack.callback(servers.database.close)
        fleet.declare(servers.machines)
        yield servers, database


def statuses(server: RunningServer) -> set[str]:
    return {machine["status"] for machine in server.fleet().values()}


BODY = {"model": "llama3.1:70b", "ttl_s": 600}


def assert_unavailable(server: RunningServer, reason: str) -> None:
    """The server blames only the database, says so everywhere, and refuses promises soon."""
    seen: set[str] = set()

    def is_unknown() -> bool:
        found = statuses(server)
        seen.update(found)
        return found == {"unknown"}

    wait_until(is_unknown)
    assert seen <= {"online", "unknown"}
    machine = next(iter(server.fleet().values()))
    assert reason in machine["status_reason"]
    assert machine["telemetry"]["gpu"]  # the last that is known
    refused = server.post("/api/leases", BODY)
    assert (refused.status_code, refused.json()["error"]) == (503, "store_unavailable")
    assert refused.headers["Retry-After"]
    assert refused.elapsed.total_seconds() < 3 * CONNECT_WAIT_S
    health = server.get("/health").json()
    assert health["store"]["state"] == "error"
    assert reason in health["store"]["message"]
    assert health["poller"]["last_cycle_at"]
    assert "no poll cycle has ended" not in health["poller"]["message"]
    assert server.get("/health/ready").status_code == 503


def assert_all_is_as_before(servers: Servers, server: RunningServer, kept: str) -> None:
    """Machines are online again without having been offline, and the lease is still there."""
    wait_until(lambda: server.get("/health").json()["store"]["state"] == "ok")
    wait_until(lambda: statuses(server) == {"online"})
    assert [one["lease"] for one in server.get("/api/leases").json()["leases"]] == [kept]
    assert requests.delete(f"{server.url}/api/leases/{kept}", timeout=60).ok
    types = [row[0] for row in servers.rows("SELECT DISTINCT type FROM event")]
    assert "offline" not in types
    wait_until(lambda: server.get("/health/ready").ok)


def test_after_a_crash_of_the_database_all_is_as_before(world: tuple[Servers, Postgres]) -> None:
    servers, database = world
    with servers.server("one") as server:
        wait_until(lambda: statuses(server) == {"online"})
        kept = server.post("/api/leases", BODY).json()["lease"]
        database.kill()
        assert_unavailable(server, "PostgreSQL cannot be reached")
        with database:
            assert_all_is_as_before(servers, server, kept)
            servers.database.close()


def test_after_the_database_has_hung_all_is_as_before(world: tuple[Servers, Postgres]) -> None:
    servers, database = world
    with servers.server("one") as server:
        wait_until(lambda: statuses(server) == {"online"})
        kept = server.post("/api/leases", BODY).json()["lease"]
        database.signal_all(signal.SIGSTOP)
        try:
            assert_unavailable(server, "PostgreSQL")
        finally:
            database.signal_all(signal.SIGCONT)
        assert_all_is_as_before(servers, server, kept)
        servers.database.close()
