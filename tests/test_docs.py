"""The README is true: its tables name what there is, and its examples are what the program says."""

import json
import re
from pathlib import Path
from typing import Any

import click

from machines_server.cli import main
from machines_server.config import Settings, load_settings, variable
from machines_server.core.advice import Load
from machines_server.core.changes import EVENT_TYPES
from machines_server.core.leases import Warmth
from machines_server.core.metrics import METRICS
from machines_server.core.router import NEAREST_FIRST
from machines_server.machine_file import parse_machine
from machines_server.route_parameters import LeaseParameters
from machines_server.wsgi import make_app
from sidecar.settings import read_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def rows(heading: str) -> dict[str, str]:
    """A table of two or three columns: what stands in its first, and in its second."""
    table = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]*)`[^|]* \| ([^|]*?) \|", table, re.MULTILINE))


def shape(value: Any) -> Any:
    """The keys of a JSON value, at any depth."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value if isinstance(inner, dict)]
    return None


def example_answer() -> Any:
    """The answer of /api/infrastructure that the README shows."""
    (text,) = code_blocks("json")
    return json.loads(text)


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    table = rows("Settings")
    settings = load_settings({})[0]
    shown = {
        "retention_raw": "48h",
        "retention_1m": "30d",
        "retention_1h": "2y",
    }
    for name in Settings.model_fields:
        value = getattr(settings, name)
        default = shown.get(name) or (f"{value:g}" if isinstance(value, float) else str(value))
        assert table.pop(variable(name)) == f"`{default}`", name
    for name, value in shown.items():
        assert getattr(load_settings({variable(name): value})[0], name) == getattr(settings, name)
    sidecar = read_settings({})
    assert table.pop("SIDECAR_HOST") == f"`{sidecar.host}`"
    assert table.pop("SIDECAR_PORT") == f"`{sidecar.port}`"
    assert table.pop("SIDECAR_SAMPLE_INTERVAL_S") == f"`{sidecar.sample_interval_s:g}`"
    assert table == {"MACHINES_URL": "`http://127.0.0.1:3038`"}


def test_every_route_stands_in_the_readme() -> None:
    app = make_app(load_settings({})[0])
    routes = set()
    for rule in app.url_map.iter_rules():
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        path = re.sub("<(?:path:)?([a-z]+)>", lambda found: found[1].upper(), rule.rule)
        routes |= {f"{method} {path}" for method in methods}
    assert routes == set(rows("Paths"))


def test_every_command_stands_in_the_readme() -> None:
    assert isinstance(main, click.Group)
    table = README.split("\n## Commands\n")[1].split("\n## ")[0]
    for name in main.commands:
        assert re.search(rf"`(machines-server )?{name}\b", table), name


def test_every_make_target_stands_in_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in phony.split():
        assert re.search(rf"make {target}(?![\w-])", README), target


def test_every_metric_and_event_stands_in_the_readme() -> None:
    section = README.split("\n## History\n")[1].split("\n## ")[0]
    for name in (*METRICS, *EVENT_TYPES):
        assert f"`{name}`" in section, name


def test_the_page_of_events_offers_every_type() -> None:
    script = (ROOT / "machines_server" / "web" / "static" / "events.js").read_text()
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


def test_every_parameter_and_code_of_routing_stands_in_its_page() -> None:
    page = (ROOT / "docs" / "routing.md").read_text()
    load = (one for one in Load._fields if not one.endswith("_bytes"))
    for name in (*LeaseParameters.model_fields, *NEAREST_FIRST, *Warmth, *load):
        assert f"`{name}`" in page, name
