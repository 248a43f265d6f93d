"""What still works while the standby that leases wait for is away."""

from pathlib import Path

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.postgres import folder_of_postgres, pair
from tests.running import wait_for_status
from tests.store.promql.engines import Engine


def test_without_its_standby_machines_are_polled_and_no_lease_is_granted(
    tmp_path: Path, engine: Engine, fakes: FakeFleet
) -> None:
    with folder_of_postgres() as folder, pair(folder) as (_, standby, url):
        servers = Servers(tmp_path, url, engine)
        text = machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3:mini"))
        (servers.machines / "box.yaml").write_text(text)
        with servers.server("a") as a:
            wait_for_status(a, "box", "online")
            assert a.post("/api/leases", {"model": "phi3:mini"}).status_code == 201
            standby.kill()
            at = a.fleet()["box"]["sampled_at"]
            cycles = 0

            def has_gone_on() -> bool:
                nonlocal at, cycles
                box = a.fleet()["box"]
                assert box["status"] == "online", box
                cycles += box["sampled_at"] != at
                at = box["sampled_at"]
                return bool(cycles > 5)

            wait_until(has_gone_on, 60)
            refused = a.post("/api/leases", {"model": "phi3:mini"})
            assert refused.status_code == 503
            assert "standby" in refused.json()["message"]
            with servers.server("b") as b:
                wait_until(lambda: servers.are_divided(2), 60)
                wait_for_status(b, "box", "online")
