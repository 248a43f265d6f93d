"""The path of a sample, from the bytes of a host to the JSON of an answer, is short and never turns back."""

import ast
import re
from pathlib import Path

import pytest

from machines_server import __file__ as package

ROOT = Path(package).parent
TELEMETRY = "store.sqlite.telemetry"
DESIGN = (ROOT.parent / "docs" / "design.md").read_text()
SECTION = DESIGN.split("## The path of a sample")[1].split("\n## ")[0]
PATH = re.findall(r"^ *[│▼]  ([a-z_.]+) ", SECTION, re.MULTILINE)
"""The modules that a sample passes, in their order, as the page on the design shows them."""
BEGINS, ASKS = "poll.schedule", "services.fleet"
"""Who begins a cycle, and whose question has the JSON made: samples are not changed by either."""
IMPORTS = {
    "poll.fetch": {"poll.transfer"},
    "poll.cycle": {"poll.fetch"},
    f"{TELEMETRY}.writer_thread": {f"{TELEMETRY}.samples"},
    "services.current_state": {"services.fleet_state"},
    "services.fleet_state": {"core.state"},
    "contract.machines": {"core.state"},
}
"""Which of the others each of them imports: one that it takes a sample from, or hands it to."""
MAX_MODULES = 11
DECODERS = {"loads", "Decoder", "json_object"}


def path_of(name: str) -> Path:
    return ROOT / f"{name.replace('.', '/')}.py"


def imported(name: str) -> set[str]:
    """The modules of the server that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path_of(name).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.removeprefix("machines_server").removeprefix(".")
            found |= {module} | {f"{module}.{alias.name}".lstrip(".") for alias in node.names}
    return found


def test_a_sample_passes_few_modules() -> None:
    assert PATH[0] == "poll.transfer"
    assert PATH[-1] == "contract.machines"
    assert len(PATH) <= MAX_MODULES


@pytest.mark.parametrize("name", PATH)
def test_a_module_on_the_path_knows_only_those_beside_it(name: str) -> None:
    assert imported(name) & set(PATH) == IMPORTS.get(name, set())


def test_the_parts_of_the_path_are_joined_by_a_table_and_by_protocols() -> None:
    assert {"runtimes.sidecar", "runtimes.ollama"} <= imported("runtimes.kinds")
    assert "runtimes.kinds" in imported("poll.cycle")
    assert "store.api.Sink" in imported("poll.cycle")
    assert "store.api.Present" in imported("services.current_state")
    assert {"services.current_state", "contract.machines"} <= imported(ASKS)
    assert "poll.cycle.poll_into" in imported(BEGINS)


def test_json_is_decoded_by_the_runtime_and_by_the_reader_of_the_store() -> None:
    """Once each: what a host sent, and what the writer has made of it."""
    decoding = []
    for name in PATH:
        for node in ast.walk(ast.parse(path_of(name).read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                if getattr(called, "attr", None) in DECODERS or getattr(called, "id", None) in DECODERS:
                    decoding.append(name)
    assert set(decoding) == {"runtimes.sidecar", f"{TELEMETRY}.latest"}
