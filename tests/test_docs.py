"""The docs are true: their tables are complete, and their examples match the program."""

import json
import re
from dataclasses import asdict
from pathlib import Path

from machines_server.contract.requests import LeaseParameters
from machines_server.core.past.events import EVENT_TYPES
from machines_server.core.past.metrics import METRICS
from machines_server.core.routing.answer import LoadEstimate, RejectionCode
from machines_server.core.routing.leases import Warmth
from machines_server.inventory.machine_file import parse_machine
from machines_server.inventory.schema import Limits
from machines_server.process.compose import make_app
from machines_server.settings import NOT_SETTINGS, Settings, load_settings, variable
from machines_server.web.tool_endpoints import MCP_PATH, TOOL_METHODS
from sidecar.settings import read_settings
from tests.bodies import gpu_body
from tests.fakes import FakeFleet
from tests.readme import README, ROOT, example_answer, page, rows, shape
from tests.running import RunningServer, wait_for_status


def default_text(value: object) -> str:
    """A default as the table writes it."""
    return "none" if value in ((), None) else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_every_setting_stands_in_its_page_with_its_default() -> None:
    table = rows("settings.md")
    settings = load_settings({})[0]
    shown = {
        "retention_raw": "`48h`",
        "retention_1m": "`30d`",
        "retention_1h": "`2y`",
    }
    for name in Settings.model_fields:
        assert variable(name) in table, f"docs/settings.md: add a row for {variable(name)}"
        assert table.pop(variable(name)) == (shown.get(name) or default_text(getattr(settings, name))), name
    for name, value in shown.items():
        assert getattr(load_settings({variable(name): value.strip("`")})[0], name) == getattr(settings, name)
    for name, value in asdict(read_settings({})).items():
        assert f"SIDECAR_{name.upper()}" in table, f"docs/settings.md: add a row for SIDECAR_{name.upper()}"
        assert table.pop(f"SIDECAR_{name.upper()}") == default_text(value), name
    of_callers = dict.fromkeys(NOT_SETTINGS, "none")
    assert table == {**of_callers, "MACHINES_URL": "`http://127.0.0.1:3038`"}


def test_every_route_stands_in_its_page() -> None:
    app = make_app(load_settings({})[0])
    routes = set()
    for rule in app.url_map.iter_rules():
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        path = re.sub("<(?:path:)?([a-z]+)>", lambda found: found[1].upper(), rule.rule)
        routes |= {f"{method} {path}" for method in methods}
    routes |= {f"{methods[0]} {path}" for path, methods in TOOL_METHODS.items() if path != MCP_PATH}
    of_api = set(re.findall("^### ([A-Z]+ /.*)$", page("api.md"), re.MULTILINE))
    wanted = of_api | set(rows("page.md"))
    assert routes == wanted, f"run python -m tools.api_page, or add to docs/page.md: {routes ^ wanted}"


def test_every_make_target_stands_in_contributing() -> None:
    makefile, text = (ROOT / "Makefile").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in phony.split():
        assert re.search(rf"make {target}(?![\w-])", text), target


def test_every_metric_and_event_stands_in_its_page() -> None:
    for name in (*METRICS, *EVENT_TYPES):
        assert f"`{name}`" in page("history.md"), f"docs/history.md: name {name}"


def test_every_limit_of_a_machine_stands_in_its_page() -> None:
    for name in Limits.model_fields:
        assert f"limits.{name}" in rows("machine-files.md"), f"docs/machine-files.md: a row for limits.{name}"


def test_the_page_of_events_offers_every_type() -> None:
    script = (ROOT / "machines_server" / "web" / "static" / "events" / "filter.js").read_text()
    (types,) = re.findall(r"const TYPES = \[(.*?)\]", script, re.DOTALL)
    assert set(re.findall(r'"([a-z_]+)"', types)) == set(EVENT_TYPES)


def test_the_machine_files_of_the_docs_are_good() -> None:
    for text in (README, page("machine-files.md"), page("proxies.md")):
        (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        parsed = parse_machine(yaml.encode(), "workstation.yaml")
        assert not parsed.problems
        assert parsed.machine is not None


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_the_answer_of_the_readme_is_what_the_server_says(tmp_path: Path, fakes: FakeFleet) -> None:
    shown = example_answer()
    with RunningServer(tmp_path) as server:
        sidecar, ollama = fakes.sidecar(gpu_body(0, used_gb=19.6)), fakes.ollama("llama3.1:70b")
        declared = {key: shown[key] for key in ("name", "role", "hardware", "models")}
        ports = {"port": ollama.port, "sidecar_port": sidecar.port}
        declared["network"] = {"hostname": sidecar.address, **ports}
        server.write("workstation.yaml", json.dumps(declared))
        wait_for_status(server, "workstation", "online")
        answer = server.get("/api/machines/workstation").json()
    answer["network"] = shown["network"]  # its ports are the fakes'
    assert shape(answer) == shape(shown)
    assert (answer["status"], answer["loaded_models"]) == (shown["status"], shown["loaded_models"])


def test_links_to_files_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for path in pages:
        text = path.read_text()
        links = [path.parent / link for link in re.findall(r"\]\(([a-zA-Z][a-zA-Z/_.-]*)(?:#[^)]*)?\)", text)]
        names = re.findall(r"`((?:machines|deploy|docs|bench)/[a-z./_-]+|[A-Z]+\.md)`", text)
        for target in (*links, *(ROOT / name for name in names)):
            assert target.exists(), f"{path.name}: {target}"


ROUTING_PAGE = (ROOT / "docs" / "routing.md").read_text()


def test_every_parameter_and_key_of_routing_stands_in_its_page() -> None:
    load = (one for one in LoadEstimate._fields if not one.endswith("_bytes"))
    for name in (*LeaseParameters.model_fields, *Warmth, *load):
        assert f"`{name}`" in ROUTING_PAGE, name


def test_the_page_of_routing_explains_the_codes_of_rejections_nearest_miss_first() -> None:
    section = ROUTING_PAGE.split("\n## Codes of rejections, nearest miss first\n")[1].split("\n## ")[0]
    table = re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", section, re.MULTILINE)
    assert table == [(code.value, code.meaning) for code in RejectionCode], (
        "docs/routing.md, Codes: its table"
    )
