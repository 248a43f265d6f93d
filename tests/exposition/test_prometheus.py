"""A real Prometheus and a real VictoriaMetrics find 50 sidecars through the server and scrape all of them."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from machines_server.core.sample import GIB
from tests.auth.agents import Agent, Agents, send
from tests.exposition.scrapers import DEPLOY, Scraper, adapted, prometheus, victoria_metrics
from tests.exposition.sidecars import Sidecars, name_of
from tests.fakes import FakeFleet, wait_until
from tests.readme import page
from tests.running import RunningServer

SIDECARS = 50
FLEET = "/api/infrastructure"
BOARD = DEPLOY / "grafana" / "machines-server.json"
Values = dict[tuple[str, ...], float]


class Scraped(NamedTuple):
    """A server that wants signatures, its sidecars, and those who scrape both."""

    server: RunningServer
    agent: Agent
    sidecars: Sidecars
    prometheus: Scraper
    victoria_metrics: Scraper
    token: Path

    @property
    def port(self) -> int:
        return int(self.server.settings["MACHINES_PORT"])

    def ask(self, method: str, target: str, body: bytes = b"") -> Any:
        """The JSON of a signed request."""
        return json.loads(send(self.port, method, target, self.agent.sign(method, target, body), body).body)

    def machines(self) -> dict[str, Any]:
        """/api/infrastructure, by name."""
        return {machine["name"]: machine for machine in self.ask("GET", FLEET)["machines"]}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder = tmp_path_factory.mktemp("scraped")
    agents, token = Agents(folder), folder / "token"
    token.touch(0o600)
    token.write_text("a-token-of-prometheus\n")
    settings = {
        "AUTH_MODE": "enforce",
        "AUTH_KEYS_DIR": str(agents.public),
        "MACHINES_METRICS_TOKEN_FILE": str(token),
    }
    with ExitStack() as stack:
        sidecars, fakes = stack.enter_context(Sidecars(SIDECARS)), stack.enter_context(FakeFleet())
        server = RunningServer(folder, **settings)
        ollama = fakes.ollama("llama3.1:8b", "nomic-embed-text:latest", address="127.4.0.1")
        for number, address in enumerate(sidecars.samples):
            server.write(f"{number}.yaml", sidecars.machine_file(address, None if number else ollama.port))
        server.write("dead.yaml", sidecars.machine_file("127.4.0.200"))
        server.write("broken.yaml", "name: [")
        stack.enter_context(server)
        address = f"127.0.0.1:{server.settings['MACHINES_PORT']}"
        both = [
            stack.enter_context(start(folder / start.__name__, address, token))
            for start in (prometheus, victoria_metrics)
        ]
        scraped = Scraped(server, agents.add("me"), sidecars, both[0], both[1], token)
        lease = b'{"model": "llama3.1:8b"}'
        wait_until(lambda: "lease" in scraped.ask("POST", "/api/leases", lease))
        send(scraped.port, "GET", FLEET)  # refused, since nobody has signed it
        for scraper in both:
            wait_until(partial(finds, scraper, "machines_up == 1", SIDECARS))
            # One more than there are files of sidecars answers: the server.
            wait_until(partial(finds, scraper, "up == 1", SIDECARS + 1))
        yield scraped


@pytest.fixture(params=["prometheus", "victoria_metrics"])
def scraper(request: pytest.FixtureRequest, scraped: Scraped) -> Scraper:
    found: Scraper = getattr(scraped, request.param)
    return found


def by_machine(values: Values) -> dict[str, float]:
    return {labels[0]: value for labels, value in values.items()}


def test_both_find_every_sidecar_and_label_it_as_its_file_says(scraped: Scraped, scraper: Scraper) -> None:
    labels = "machine", "role", "tags", "instance"
    found = scraper.values('up{job="machines-sidecar"} == 1', *labels)
    expected = set()
    for address in scraped.sidecars.samples:
        declared = json.loads(scraped.sidecars.machine_file(address))
        tags = f",{','.join(declared['tags'])}," if declared["tags"] else ""
        expected.add((declared["name"], declared["role"], tags, f"{address}:{scraped.sidecars.port}"))
    assert found.keys() == expected
    # The sidecar that is down was found as well.
    assert by_machine(scraper.values("up == 0", "machine")) == {"host-200": 0}


def test_what_they_scrape_of_sidecars_is_what_the_server_says(scraped: Scraped, scraper: Scraper) -> None:
    assert scraped.sidecars.scraped == set(scraped.sidecars.samples)
    of_host = "cpu_usage_ratio", "ram_used_bytes", "disk_available_bytes", "uptime_seconds"
    for name in of_host:
        ours = by_machine(scraper.values(f"machines_{name}", "machine"))
        theirs = by_machine(scraper.values(f"machines_sidecar_{name}", "machine"))
        assert len(ours) == SIDECARS
        assert ours == pytest.approx(theirs)
    of_gpu = (
        "memory_total_bytes",
        "memory_used_bytes",
        "utilisation_ratio",
        "temperature_celsius",
        "power_watts",
    )
    for name in of_gpu:
        labels = "machine", "uuid", "model"
        ours_of_gpu = scraper.values(f"machines_gpu_{name}", *labels, "gpu")
        theirs_of_gpu = scraper.values(f"machines_sidecar_gpu_{name}", *labels, "index")
        assert len(ours_of_gpu) == 2 * SIDECARS
        assert ours_of_gpu == pytest.approx(theirs_of_gpu)


def test_their_numbers_are_those_of_the_api(scraped: Scraped, scraper: Scraper) -> None:
    machines = scraped.machines()
    online = {name: machine for name, machine in machines.items() if machine["status"] == "online"}
    cpu = by_machine(scraper.values("machines_cpu_usage_ratio * 100", "machine"))
    assert cpu == pytest.approx({name: one["telemetry"]["cpu_percent"] for name, one in online.items()})
    used = scraper.values(f"machines_gpu_memory_used_bytes / {GIB}", "machine", "uuid")
    shown = {
        (name, gpu["uuid"]): gpu["vram_used_gb"]
        for name, one in online.items()
        for gpu in one["telemetry"]["gpu"]
    }
    assert used == pytest.approx(shown, abs=0.005)
    status = scraper.values("machines_status == 1", "machine", "status")
    assert set(status) == {(name, one["status"]) for name, one in machines.items()}
    loaded = scraper.values("machines_model_vram_bytes", "machine", "model")
    assert set(loaded) == {(name, model) for name, one in machines.items() for model in one["loaded_models"]}
    assert loaded


def test_a_machine_that_is_offline_has_no_live_series(scraped: Scraped, scraper: Scraper) -> None:
    name = name_of("127.4.0.200")
    assert scraped.machines()[name]["status"] == "offline"
    ours = f'{{machine="{name}",job="machines-server",__name__=~"machines_.*"}}'
    found = {one["metric"]["__name__"] for one in scraper.query(ours)}
    assert found == {"machines_up", "machines_status", "machines_info"}
    assert by_machine(scraper.values("machines_up == 0", "machine")) == {name: 0}


def expressions() -> dict[str, str]:
    """The queries of the board's panels, by panel and query."""
    panels = json.loads(BOARD.read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels
        for target in panel.get("targets", ())
    }


def finds(scraper: Scraper, expression: str, number: int) -> bool:
    """Return whether an expression gives that many series."""
    return len(scraper.query(expression)) == number


def has_figures(scraper: Scraper, expression: str) -> bool:
    expression = expression.replace("$machine", ".*").replace("$__rate_interval", "1m")
    return any(one["value"][1] != "NaN" for one in scraper.query(expression))


@pytest.mark.parametrize("panel", expressions())
def test_no_panel_of_the_board_is_empty(scraped: Scraped, panel: str) -> None:
    expression = expressions()[panel]
    wait_until(lambda: has_figures(scraped.prometheus, expression))


def test_grafana_can_read_the_board() -> None:
    board = json.loads(BOARD.read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating"} <= board.keys()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {one["name"] for one in board["templating"]["list"]}
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            used = set(re.findall(r"\$([a-z]\w*)", target["expr"]))
            assert used <= variables


def test_the_machine_variable_of_the_board_lists_all_machines(scraped: Scraped) -> None:
    (variable,) = (
        one for one in json.loads(BOARD.read_text())["templating"]["list"] if one["name"] == "machine"
    )
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
    assert found
    metric, label = found.groups()
    assert {labels[0] for labels in scraped.prometheus.values(metric, label)} == set(scraped.machines())


def test_the_queries_of_the_page_have_answers(scraped: Scraped) -> None:
    (queries,) = re.findall(r"```promql\n(.*?)```", page("prometheus.md"), re.DOTALL)
    for query in filter(None, queries.splitlines()):
        if not query.startswith("#"):
            wait_until(partial(has_figures, scraped.prometheus, query))


def test_the_rules_are_loaded_and_one_of_them_is_pending(scraped: Scraped) -> None:
    pending = 'ALERTS{alertname="MachineOffline"}'
    wait_until(lambda: scraped.prometheus.values(pending, "machine", "alertstate"))
    found = scraped.prometheus.values(pending, "machine", "alertstate")
    assert set(found) == {(name_of("127.4.0.200"), "pending")}


def test_the_configuration_has_a_place_for_each_token(tmp_path: Path) -> None:
    for file in ("prometheus/prometheus.yml", "victoria-metrics/scrape.yml"):
        text = adapted(DEPLOY / file, "127.0.0.1:1", tmp_path / "token")
        assert text.count(f"credentials_file: {tmp_path}/token") == 2
        assert "# authorization" in text
