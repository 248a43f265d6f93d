"""Servers whose clocks differ by an hour: all go by the database's."""

from functools import partial
from pathlib import Path

import pytest

from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, command, wait_for_status
from tests.world.clock import Clock

HISTORY = "/api/machines/box/history?metric=cpu_percent&from=-5m"


def has_history(server: RunningServer) -> bool:
    (series,) = server.get(HISTORY).json()["series"]
    return bool(series["points"])


def events_of_last_minutes(server: RunningServer) -> list[str]:
    return [event["type"] for event in server.get("/api/events?from=-5m").json()["events"]]


@pytest.mark.slow
@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_server_whose_clock_is_wrong_answers_as_others_do(
    servers: Servers, tmp_path: Path, fakes: FakeFleet, ahead_s: int
) -> None:
    (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3")))
    clock = Clock(tmp_path)
    clock.set(ahead_s)
    with servers.server("right") as right, servers.server("wrong", **clock.environment) as wrong:
        for server in right, wrong:
            wait_for_status(server, "box", "online")
            wait_until(partial(has_history, server))
            assert "online" in events_of_last_minutes(server)
        wait_until(lambda: servers.are_divided(2))
        lease = wrong.post("/api/leases", {"model": "phi3", "ttl_s": 60}).json()["lease"]
        for server in right, wrong:
            assert [one["lease"] for one in server.get("/api/leases").json()["leases"]] == [lease]
        done = command("doctor", **wrong.settings)
        assert f"the database's is {abs(ahead_s):.1f} s" in done.stdout
        assert {server.fleet()["box"]["status"] for server in (right, wrong)} == {"online"}
    assert servers.rows("SELECT FROM event WHERE type IN ('offline', 'unknown')") == []
    servers.database.close()
