"""The past over HTTP: what is asked for exactly, and a clear no to what cannot be asked."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from machines_server.config import load_settings
from machines_server.core.registry import Endpoint, Registry
from machines_server.core.sample import Cycle, HostSample, Library, LoadedModel, State, StoredModel
from machines_server.wsgi import make_app
from tests.store.test_history import Database
from tests.store.test_samples import machine, of_one, polled

HOUR = 3600


class Past:
    """A client, and the database behind it."""

    def __init__(self, folder: Path) -> None:
        (folder / "machines").mkdir()
        (folder / "machines" / "two.yaml").write_text(
            "name: two\nrole: r\nhardware: {}\nnetwork: {hostname: 127.0.0.1}\nmodels: [llama3.1:70b, phi3]\n"
        )
        self.now = time.time()
        self.database = Database(folder / "var" / "telemetry.db")
        given = {"MACHINES_DIR": str(folder / "machines"), "MACHINES_DATA_DIR": str(folder / "var")}
        self.client: FlaskClient = make_app(load_settings(given)[0]).test_client()

    def get(self, path: str, status: int = 200) -> Any:
        response = self.client.get(path)
        assert response.status_code == status, response.data
        assert response.mimetype == "application/json"
        return json.loads(response.data)

    def write_cycles(self, *states: State, every_s: float = 5) -> None:
        """One cycle after another, the last of them now."""
        for number, state in enumerate(states):
            at = self.now - every_s * (len(states) - 1 - number)
            self.database.add(at, float(number), state=state)
            self.database.writer.write([Cycle(at - 0.1, at, every_s, 2)])


@pytest.fixture
def past(tmp_path: Path) -> Any:
    past = Past(tmp_path)
    yield past
    past.database.connection.close()


def test_a_series_has_average_least_most_and_number(past: Past) -> None:
    past.database.add(past.now - 20, 1.0)
    past.database.add(past.now - 10, 2.0)
    answer = past.get("/api/machines/one/history?metric=cpu_percent&from=-1h&step=86400")
    assert (answer["machine"], answer["step_s"], answer["tier"]) == ("one", 86_400, "1h")
    (series,) = answer["series"]
    assert (series["metric"], series["unit"], series["gpu"]) == ("cpu_percent", "percent", None)
    values = [point[1:] for point in series["points"]]
    assert values in ([[1.5, 1.0, 2.0, 2]], [[1.0, 1.0, 1.0, 1], [2.0, 2.0, 2.0, 1]])  # at midnight it is cut


def test_gpu_metrics_come_for_each_gpu_and_a_machine_without_a_file_is_answered(past: Past) -> None:
    past.database.add(past.now, vram=3 * 2**30)
    past.database.writer.write([Registry(loaded_at=past.now)])
    (series,) = past.get("/api/machines/one/history?metric=vram_used_gb&gpu=0&from=-1m")["series"]
    assert (series["gpu"], series["unit"], series["points"][0][1]) == (0, "GiB", 3.0)


def test_an_automatic_step_gives_at_most_five_hundred_points(past: Past) -> None:
    for span in ("-1m", "-1h", "-24h", "-7d", "-30d", "-365d"):
        answer = past.get(f"/api/machines/one/history?metric=up&from={span}")
        first, last = answer["from"], answer["to"]
        assert first < last
        assert answer["step_s"] >= 1
    assert answer["tier"] == "1h"


def test_csv_has_its_units_in_the_header(past: Past) -> None:
    past.database.add(past.now, 7.5)
    response = past.client.get(
        "/api/machines/one/history?metric=cpu_percent,vram_used_gb&from=-1m&format=csv"
    )
    assert response.mimetype == "text/csv"
    head, row = list(csv.reader(io.StringIO(response.text)))
    assert head[:5] == [
        "time",
        "cpu_percent avg [percent]",
        "cpu_percent min [percent]",
        "cpu_percent max [percent]",
        "cpu_percent n",
    ]
    assert head[5] == "gpu0 vram_used_gb avg [GiB]"
    assert row[1:6] == ["7.5", "7.5", "7.5", "1", "1.0"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("metric=cpu", "metric"),
        ("metric=cpu_percent,", "metric"),
        ("from=yesterday", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("from=now&to=-1h", "from"),
        ("step=0", "step"),
        ("step=1.5", "step"),
        ("step=-60", "step"),
        ("step=1&from=-47h", "step"),
        ("step=10&from=-7d", "step"),
        ("step=60&from=-300d", "step"),
        ("step=31536001", "step"),
        (f"step=1{'0' * 400}", "step"),
        ("to=9999-06-30T00:00:00Z", "to"),
        ("gpu=3", "gpu"),
        ("format=xml", "format"),
        ("form=-1h", "form"),
        ("metric=up&metric=poll_s", "metric"),
    ],
)
def test_a_bad_parameter_is_named_and_explained(past: Past, query: str, parameter: str) -> None:
    answer = past.get(f"/api/machines/one/history?{query}", 400)
    assert (answer["error"], answer["parameter"]) == ("bad_parameter", parameter)
    assert f"parameter {parameter} " in answer["message"]


def test_the_ends_of_time_can_be_asked_for(past: Past) -> None:
    answer = past.get("/api/machines/one/history?from=0&to=9998-12-31T23:59:59Z&step=31536000&gpu=")
    assert (answer["from"], answer["to"][:4]) == ("1970-01-01T00:00:00.000Z", "9999")


def test_a_machine_that_never_was_is_404_and_a_missing_database_503(past: Past, tmp_path: Path) -> None:
    assert past.get("/api/machines/nobody/history", 404)["error"] == "unknown_machine"
    assert past.get("/api/machines/nobody/availability", 404)["error"] == "unknown_machine"
    assert past.get("/api/events?machine=nobody", 404)["error"] == "unknown_machine"
    (tmp_path / "var" / "telemetry.db").rename(tmp_path / "gone.db")
    assert past.get("/api/machines/one/history", 503)["error"] == "store_unavailable"


def test_events_come_newest_first_and_can_be_narrowed(past: Past) -> None:
    past.write_cycles(State.OK, State.UNREACHABLE, State.OK)
    events = past.get("/api/events?from=-1h")["events"]
    assert [event["type"] for event in events] == ["online", "offline", "online"]
    assert events[1]["reason"] == "sidecar: why"
    assert [event["type"] for event in past.get("/api/events?type=machine_added,offline")["events"]] == [
        "offline",
        "machine_added",
    ]
    assert len(past.get("/api/events?limit=2")["events"]) == 2
    assert past.get(f"/api/events?after={events[0]['id']}")["events"] == []
    assert past.get(f"/api/events?after={events[2]['id']}&limit=1")["events"] == [events[1]]  # none is missed
    assert past.get("/api/events?type=crashed", 400)["parameter"] == "type"
    assert past.get("/api/events?limit=none", 400)["parameter"] == "limit"
    for path in ("events?name=one", "models?model=m", "machines/one/availability?step=60"):
        assert "is not known" in past.get(f"/api/{path}", 400)["message"]


def test_availability_adds_up_and_counts_our_absence_as_unknown(past: Past) -> None:
    past.write_cycles(*[State.OK] * 6, *[State.UNREACHABLE] * 6, State.OK)
    answer = past.get("/api/machines/one/availability?from=-1h")
    seconds = answer["seconds"]
    assert seconds["online"] == pytest.approx(30, abs=1)
    assert seconds["offline"] == pytest.approx(30, abs=1)
    assert sum(seconds.values()) == pytest.approx(HOUR, abs=1)
    assert answer["ratio"] == pytest.approx(0.5, abs=0.02)


def test_models_say_where_declared_where_loaded_and_where_last_seen(past: Past) -> None:
    model = LoadedModel("llama3.1:70b", "d", 2**32, 2**32, 4096)
    for at, listed in ((past.now - 60, (model,)), (past.now - 55, (model,)), (past.now - 50, ())):
        result = polled(Endpoint.OLLAMA, at, listed)
        sidecar = polled(Endpoint.SIDECAR, at, HostSample())
        past.database.writer.write(of_one(sidecar, result))
    stored = tuple(StoredModel(name) for name in ("mistral:7b", "phi3:latest"))
    both = Registry((machine("one"), machine("two")), loaded_at=past.now)
    past.database.writer.write(
        [both, Library("two", "http://127.0.0.1:11434/api/tags", past.now - 50, stored)]
    )
    models = {model["model"]: model for model in past.get("/api/models?from=-1h")["models"]}
    assert list(models) == ["llama3.1:70b", "mistral:7b", "phi3"]
    assert [models[name]["on_disk"] for name in models] == [[], ["two"], ["two"]]
    llama = models["llama3.1:70b"]
    assert (llama["declared"], llama["loaded"], llama["last_loaded"]["machine"]) == (["two"], [], "one")
    assert llama["residency_s"] == pytest.approx(5)
    assert models["phi3"]["last_loaded"] is None
