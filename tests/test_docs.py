"""The README is true: its tables name what there is, and its examples are what the program says."""

import re
from dataclasses import asdict

import click

from machines_server.cli.main import main
from machines_server.contract.requests import LeaseParameters
from machines_server.core.past.events import EVENT_TYPES
from machines_server.core.past.metrics import METRICS
from machines_server.core.routing.answer import LoadEstimate, RejectionCode
from machines_server.core.routing.leases import Warmth
from machines_server.inventory.machine_file import parse_machine
from machines_server.process.compose import make_app
from machines_server.settings import Settings, load_settings, variable
from sidecar.settings import read_settings
from tests.readme import README, ROOT, code_blocks, rows


def default_text(value: object) -> str:
    """A default as the table writes it."""
    return "none" if value == () else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    table = rows("Settings")
    settings = load_settings({})[0]
    shown = {
        "retention_raw": "`48h`",
        "retention_1m": "`30d`",
        "retention_1h": "`2y`",
    }
    for name in Settings.model_fields:
        assert variable(name) in table, f"README.md, Settings: add a row for {variable(name)}"
        assert table.pop(variable(name)) == (shown.get(name) or default_text(getattr(settings, name))), name
    for name, value in shown.items():
        assert getattr(load_settings({variable(name): value.strip("`")})[0], name) == getattr(settings, name)
    for name, value in asdict(read_settings({})).items():
        assert f"SIDECAR_{name.upper()}" in table, (
            f"README.md, Settings: add a row for SIDECAR_{name.upper()}"
        )
        assert table.pop(f"SIDECAR_{name.upper()}") == default_text(value), name
    assert table == {"MACHINES_URL": "`http://127.0.0.1:3038`"}


def test_every_route_stands_in_the_readme() -> None:
    app = make_app(load_settings({})[0])
    routes = set()
    for rule in app.url_map.iter_rules():
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        path = re.sub("<(?:path:)?([a-z]+)>", lambda found: found[1].upper(), rule.rule)
        routes |= {f"{method} {path}" for method in methods}
    assert routes == set(rows("Paths")), "README.md, Paths: a row for each route"


def test_every_command_stands_in_the_readme() -> None:
    assert isinstance(main, click.Group)
    table = README.split("\n## Commands\n")[1].split("\n## ")[0]
    for name in main.list_commands(click.Context(main)):
        assert re.search(rf"`(machines-server )?{name}\b", table), name


def test_every_make_target_stands_in_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in phony.split():
        assert re.search(rf"make {target}(?![\w-])", README), target


def test_every_metric_and_event_stands_in_the_readme() -> None:
    section = README.split("\n## History\n")[1].split("\n## ")[0]
    for name in (*METRICS, *EVENT_TYPES):
        assert f"`{name}`" in section, f"README.md, History: name {name}"


def test_the_page_of_events_offers_every_type() -> None:
    script = (ROOT / "machines_server" / "web" / "static" / "events" / "filter.js").read_text()
    (types,) = re.findall(r"const TYPES = \[(.*?)\]", script, re.DOTALL)
    assert set(re.findall(r'"([a-z_]+)"', types)) == set(EVENT_TYPES)


def test_the_machine_file_of_the_readme_is_good() -> None:
    (text,) = code_blocks("yaml")
    parsed = parse_machine(text.encode(), "workstation.yaml")
    assert not parsed.problems
    assert parsed.machine is not None


def test_links_to_files_lead_somewhere() -> None:
    for name in re.findall(r"`((?:machines|deploy|docs|bench)/[a-z./_-]+|[A-Z]+\.md)`", README):
        assert (ROOT / name).exists(), name


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
