"""Servers whose engine is away: only the history is."""

from pathlib import Path

import pytest

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.postgres import Postgres
from tests.running import wait_for_status
from tests.store.promql.engines import victoria_metrics

HISTORY = "/api/machines/box/history?metric=cpu_percent&from=-5m"


@pytest.mark.slow
def test_servers_are_ready_and_grant_leases_while_the_engine_is_away(
    tmp_path: Path, postgres: Postgres, fakes: FakeFleet
) -> None:
    engine = victoria_metrics(tmp_path / "engine")
    servers = Servers(tmp_path, postgres.new_database(), engine)
    (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3")))
    with servers.server("a") as server:
        wait_for_status(server, "box", "online")
        refused = server.get(HISTORY)
        assert (refused.status_code, refused.json()["error"]) == (503, "store_unavailable")
        sentence = f"The history engine at {engine.url} does not answer: connection refused."
        assert refused.json()["message"] == sentence
        ready = server.get("/health/ready")
        assert (ready.status_code, ready.json()["store"]["state"]) == (200, "ok")
        assert sentence in ready.json()["warnings"]
        assert server.post("/api/leases", {"model": "phi3"}).status_code == 201
        wait_until(
            lambda: "The history cannot be written" in str(server.get("/health").json()["poller"]["message"])
        )
        with engine:
            wait_until(lambda: server.get(HISTORY).ok)
            assert sentence not in server.get("/health").json()["warnings"]
            wait_until(lambda: server.get("/health").json()["poller"]["message"] is None, 120)
    servers.database.close()
