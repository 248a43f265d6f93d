"""No answer contains a character that controls a terminal, and neither does any of our messages."""

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from ruamel.yaml import YAML

from machines_server.contract.history import history_csv
from machines_server.core.machine import Problem, Registry
from machines_server.core.past.metrics import Metric
from machines_server.core.past.rollup import Fold
from machines_server.core.past.series import MachineSeries, Series, SeriesRange
from machines_server.core.sample import (
    Cycle,
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    RuntimeState,
    State,
)
from machines_server.core.text import spreadsheet_cell
from machines_server.inventory.folder import RegistryFiles
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention
from tests.core.characters import ACTING
from tests.core.machines import OLLAMA
from tests.inventory.texts import good

SURROGATES = "\ud800\udbff\udc00\udfff"
NASTY = "".join(one for one in ACTING if one not in SURROGATES)
"""All that acts and can stand in a file."""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    """A server of one machine whose file, sidecar and Ollama say all that acts."""
    folder = tmp_path / "machines"
    folder.mkdir()
    text = good("box", more=f"note: {json.dumps({NASTY: [NASTY]})}\n").replace("gpu-host", json.dumps(NASTY))
    (folder / "box.yaml").write_text(text)
    (folder / "broken.yaml").write_text(
        f"{json.dumps(NASTY)}: [1, !{NASTY[-3:]}x 2]\nname: {json.dumps(NASTY)}\n"
    )
    settings, _ = load_settings({"MACHINES_DIR": str(folder), "MACHINES_DATA_DIR": str(tmp_path / "var")})
    path = tmp_path / "var" / "telemetry.db"
    migrate(path)
    connection = open_writer(path)
    now = time.time()
    registry = RegistryFiles(folder).current(now)
    (machine,) = registry
    card = GpuSample(0, f"GPU-{NASTY}", NASTY, "dedicated", 3, 1, 2)
    answers = {
        "sidecar": RuntimeState(host=HostSample(gpu=(card,))),
        "ollama": RuntimeState(models=(LoadedModel(f"a{NASTY}"),)),
    }
    results = [
        PollResult("box", endpoint, State.OK, now, 0.1, None, answers[kind])
        for kind, endpoint in machine.endpoints.items()
    ]
    SampleWriter(connection, 12, Rollups(connection, Retention(1e6, 1e7, 1e8))).write(
        [registry, *results, Cycle(now - 1, now, 5, 2)]
    )
    yield make_app(settings).test_client()
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/api/machines",
        "/api/infrastructure",
        "/api/infrastructure?plain",
        "/api/machines/box",
        "/api/machines/box/file",
        "/api/models",
        "/api/events",
        "/api/leases",
        "/health",
    ],
)
def test_no_answer_has_a_character_that_acts(client: FlaskClient, path: str) -> None:
    text = client.get(path).get_data(as_text=True)
    assert not set(text) & set(ACTING) - {"\n"}


def test_what_a_file_and_its_host_say_is_the_same_behind_the_escapes(client: FlaskClient) -> None:
    (machine,) = client.get("/api/infrastructure").get_json()["machines"]
    assert machine["role"] == NASTY
    assert machine["note"] == {NASTY: [NASTY]}
    assert machine["telemetry"]["gpu"][0]["model"] == NASTY
    assert machine["loaded_models"] == [f"a{NASTY}"]
    declared = YAML(typ="safe", pure=True).load(client.get("/api/machines/box/file").get_data())
    assert declared["note"] == {NASTY: [NASTY]}


def sentences(answer: Any) -> Iterator[str]:
    """Whatever of an answer is said by us."""
    if isinstance(answer, list):
        for one in answer:
            yield from sentences(one)
    elif isinstance(answer, dict):
        for key, value in answer.items():
            if key in ("message", "reason", "status_reason") and value is not None:
                yield value
            yield from sentences(value)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/machines/{}", 404),
        ("/api/machines/{}/history", 404),
        ("/api/events?type={}", 400),
        ("/api/events?{}=1", 400),
        ("/api/events?from={}", 400),
        ("/api/route?model={}", 400),
        ("/api/route?model=x&role={}", 503),
        ("/api/route?model=x&tag={}", 503),
        ("/api/route?model=x&where={}:{}", 503),
        ("/api/infrastructure", 200),
        ("/api/machines", 200),
    ],
)
@pytest.mark.parametrize("nasty", ["%1B[2J%07", "%C2%9B31m", "a%E2%80%AEb%E2%81%A6", "a%0D%0Ab%7F"])
def test_no_sentence_of_ours_says_one(client: FlaskClient, path: str, status: int, nasty: str) -> None:
    response = client.get(path.replace("{}", nasty))
    assert response.status_code == status
    said = list(sentences(response.get_json()))
    assert said
    assert not set("".join(said)) & set(ACTING)
    assert not set(response.get_data(as_text=True)) & set(ACTING)


def test_the_reason_of_a_poll_and_the_problem_of_a_file_are_printable_from_the_start() -> None:
    poll = PollResult("box", OLLAMA, State.ERROR, 0.0, 0.1, f"HTTP {NASTY}", hint=f"see {NASTY}.yaml")
    assert not set(f"{poll.reason}{poll.hint}") & set(ACTING)
    assert not set(str(Problem("a\n.yaml", NASTY, 1, 2, NASTY))) & set(ACTING)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_text_that_begins_like_a_formula_is_none_in_a_table(first: str) -> None:
    assert spreadsheet_cell(f"{first}cmd|' /C calc'!A0").startswith("'")


@pytest.mark.parametrize("text", ["", "2026-11-23T17:00:00Z", "gpu0 power_w", "'quoted", "a=b", "1-2"])
def test_another_text_is_the_same_in_a_table(text: str) -> None:
    assert spreadsheet_cell(text) == text


def test_in_a_csv_texts_are_defused_and_numbers_stay_numbers() -> None:
    metric = Metric("=1+1\x1b", "@", "", stored_per_unit=1)
    series = Series(metric, None, [(0, Fold(1, -3, -3, -3))])
    found = SeriesRange(0, 1, 1, "raw", [MachineSeries("box", [series])])
    head, row = csv.reader(io.StringIO("".join(history_csv(found, with_machines=False))))
    assert head[1] == r"'=1+1\x1b avg [@]"
    assert row[1:] == ["-3.0", "-3.0", "-3.0", "1"]


@pytest.mark.parametrize(("errors", "warnings"), [(1500, 10), (5, 1500), (0, 1200)])
def test_at_most_a_thousand_problems_are_named_errors_first_and_the_last_counts_the_rest(
    errors: int, warnings: int
) -> None:
    problems = [Problem(f"{number}.yaml", "odd", severity="warning") for number in range(warnings)]
    problems += [Problem(f"{number}.yaml", "bad") for number in range(errors)]
    named = Registry(problems=tuple(problems)).first_problems(1000)
    left, left_errors = errors + warnings - 999, max(errors - 999, 0)
    assert len(named) == 1000
    assert sum(one.severity == "error" for one in named[:-1]) == min(errors, 999)
    assert f"{left:,} more problems, {left_errors:,} of them errors" in named[-1].message
    assert named[-1].severity == ("error" if left_errors else "warning")


def test_a_thousand_problems_are_all_named() -> None:
    problems = tuple(Problem(f"{number}.yaml", "bad") for number in range(1000))
    assert tuple(Registry(problems=problems).first_problems(1000)) == problems


def test_folders_and_files_whose_names_are_no_text_are_shown_with_escapes(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    (folder / "\udcff.yaml").write_text(good("box"))
    settings, _ = load_settings({"MACHINES_DIR": str(folder), "MACHINES_DATA_DIR": str(tmp_path / "var")})
    client = make_app(settings).test_client()
    answer = client.get("/api/machines").get_json()
    assert answer["config_dir"].endswith(r"/caf\udce9")
    assert [machine["_config_file"] for machine in answer["machines"]] == [r"\xff.yaml"]
    assert client.get("/api/infrastructure").status_code == 200


def test_an_answer_names_at_most_a_thousand_problems(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.yaml").write_text("models: [" + "1, " * 150 + "]\n")
    settings, _ = load_settings({"MACHINES_DIR": str(tmp_path), "MACHINES_DATA_DIR": str(tmp_path / "var")})
    client = make_app(settings).test_client()
    for path in ("/api/machines", "/api/infrastructure"):
        found = client.get(path).get_json()["errors"]
        assert len(found) == 1000
        assert "more problems" in found[-1]["message"]
