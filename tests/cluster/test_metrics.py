"""What Prometheus reads from a server in a cluster."""

from tests.cluster.servers import Servers
from tests.exposition.reading import Exposition
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.readme import page
from tests.running import RunningServer, wait_for_status

SHARDS, DROPPED = "machines_server_shards", "machines_server_history_dropped_samples_total"
SENT = "machines_server_history_sent_samples_total"


def metrics(server: RunningServer) -> Exposition:
    return Exposition(server.get("/metrics").text)


def test_shards_and_samples_are_counted(servers: Servers, fakes: FakeFleet) -> None:
    (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama()))
    with servers.server("a") as a:
        wait_for_status(a, "box", "online")
        wait_until(lambda: metrics(a).value(SHARDS) == 256 and (metrics(a).value(SENT) or 0) > 0, 60)
        found = metrics(a)
        found.check()
        assert found.value("machines_server_history_waiting_samples") is not None
        assert found.sum(DROPPED) == 0
        for name in found.names():
            if name.startswith("machines_server_"):
                family = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
                assert f"`{family}" in page("prometheus.md"), f"docs/prometheus.md: {family}"
        assert f"`{DROPPED}`" in page("prometheus.md")
        with servers.server("b") as b:
            wait_until(lambda: (metrics(a).value(SHARDS) or 0) + (metrics(b).value(SHARDS) or 0) == 256, 60)
