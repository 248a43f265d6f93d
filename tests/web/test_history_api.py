"""The past over HTTP: exactly what is requested, and a clear error for invalid requests."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from machines_server.core.machine import Registry
from machines_server.core.sample import (
    GpuSample,
    HostSample,
    Library,
    LoadedModel,
    Sample,
    State,
    StoredModel,
)
from tests.core.machines import OLLAMA, SIDECAR
from tests.store.polls import machine, of_one, polled
from tests.web.past import Past

HOUR = 3600


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


def swap_card(past: Past) -> None:
    """The card of index 0 made way for another one."""
    past.database.add(past.now - 20, vram=2**30)
    new = GpuSample(0, "GPU-b", "better card", "dedicated", 2**35, 2**34, 2**34)
    result = polled(SIDECAR, past.now - 10, HostSample(gpu=(new,)))
    past.database.writer.write([Sample("one", {"sidecar": result})])


def test_a_card_and_the_one_that_replaced_it_are_told_apart(past: Past) -> None:
    swap_card(past)
    path = "/api/machines/one/history?metric=vram_used_gb,cpu_percent&from=-1m"
    old, new, host = past.get(f"{path}&gpu=0")["series"]
    assert [(one["gpu"], one["uuid"], one["model"]) for one in (old, new, host)] == [
        (0, "GPU-a", "card"),
        (0, "GPU-b", "better card"),
        (None, None, None),
    ]
    assert [[point[1] for point in one["points"]] for one in (old, new)] == [[1.0], [16.0]]
    (alone, _) = past.get(f"{path}&gpu=GPU-b")["series"]
    assert alone == new


def test_columns_of_a_card_and_the_one_that_replaced_it_have_other_heads(past: Past) -> None:
    swap_card(past)
    text = past.client.get("/api/machines/one/history?metric=power_w,utilisation&from=-1m&format=csv").text
    head = next(csv.reader(io.StringIO(text)))
    assert len(set(head)) == len(head) == 1 + 2 * 2 * 4
    assert "gpu0 power_w n of GPU-a (card)" in head
    assert "gpu0 power_w n of GPU-b (better card)" in head


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
    assert head[5] == "gpu0 vram_used_gb avg [GiB] of GPU-a (card)"
    assert row[1:6] == ["7.5", "7.5", "7.5", "1", "1.0"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("metric=cpu", "metric"),
        ("metric=cpu_percent,cpu", "metric"),
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
        ("from=-1h&from=-2h", "from"),
    ],
)
def test_a_bad_parameter_is_named_and_explained(past: Past, query: str, parameter: str) -> None:
    answer = past.get(f"/api/machines/one/history?{query}", 400)
    assert (answer["error"], answer["parameter"]) == ("bad_parameter", parameter)
    assert f"parameter {parameter} " in answer["message"]


@pytest.mark.parametrize(
    "query", ["metric=up,poll_s", "metric=up&metric=poll_s", "metric=up,,poll_s,&metric=&metric=up"]
)
def test_a_list_is_given_by_commas_or_by_repetition(past: Past, query: str) -> None:
    past.database.add(past.now)
    answer = past.get(f"/api/machines/one/history?{query}&gpu=&gpu=0,GPU-a")
    assert [series["metric"] for series in answer["series"]] == ["up", "poll_s"]


def test_the_ends_of_time_can_be_asked_for(past: Past) -> None:
    answer = past.get("/api/machines/one/history?from=0&to=9998-12-31T23:59:59Z&step=31536000&gpu=")
    assert (answer["from"], answer["to"][:4]) == ("1970-01-01T00:00:00.000Z", "9999")


def test_a_machine_that_never_was_is_404_and_a_missing_database_503(past: Past, tmp_path: Path) -> None:
    assert past.get("/api/machines/nobody/history", 404)["error"] == "unknown_machine"
    assert past.get("/api/machines/nobody/availability", 404)["error"] == "unknown_machine"
    assert past.get("/api/events?machine=nobody", 404)["error"] == "unknown_machine"
    (tmp_path / "var" / "telemetry.db").rename(tmp_path / "gone.db")
    assert past.get("/api/machines/one/history", 503)["error"] == "store_unavailable"


def test_a_name_that_is_not_known_brings_similar_ones(past: Past) -> None:
    past.database.writer.write([Registry((machine("alpha"), machine("beta")), loaded_at=past.now)])
    for path in ("machines/alpa/history", "history?machine=beta&machine=alpa", "events?machine=beta,alpa"):
        refused = past.get(f"/api/{path}", 404)
        assert (refused["error"], refused["did_you_mean"]) == ("unknown_machine", ["alpha"])
        assert "'alpa'" in refused["message"]
        assert "Did you mean alpha?" in refused["message"]
    assert past.get("/api/machines/twoo", 404)["did_you_mean"] == ["two"]
    assert past.get("/api/machines/qqq/availability", 404)["did_you_mean"] == []


def test_events_come_newest_first_and_can_be_narrowed(past: Past) -> None:
    past.write_cycles(State.OK, State.UNREACHABLE, State.OK)
    events = past.get("/api/events?from=-1h")["events"]
    assert [event["type"] for event in events] == ["online", "offline", "online"]
    assert events[1]["reason"] == "sidecar: why"
    for query in ("type=machine_added,offline", "type=machine_added&type=offline&machine=one,ONE"):
        found = past.get(f"/api/events?{query}")["events"]
        assert [event["type"] for event in found] == ["offline", "machine_added"]
    assert past.get("/api/events?type=crashed", 400)["parameter"] == "type"
    assert past.get("/api/events?limit=none", 400)["parameter"] == "limit"
    for path in ("events?name=one", "models?model=m", "machines/one/availability?step=60"):
        assert "is not known" in past.get(f"/api/{path}", 400)["message"]


def test_next_leads_through_all_events_and_is_null_at_the_end(past: Past) -> None:
    past.write_cycles(State.OK, State.UNREACHABLE, State.OK)
    every = past.get("/api/events")
    assert (len(every["events"]), every["next"], every["truncated"]) == (4, None, False)
    newest = past.get("/api/events?limit=3")
    assert (newest["events"], newest["truncated"]) == (every["events"][:3], True)
    oldest = past.get(f"/api/events?limit=3&before={newest['next']}")
    assert oldest == {"events": every["events"][3:], "next": None, "truncated": False, "newest": 4}
    first = past.get("/api/events?limit=3&after=0")
    assert (first["events"], first["truncated"]) == (every["events"][1:], True)
    last = past.get(f"/api/events?limit=3&after={first['next']}")
    assert last == {"events": every["events"][:1], "next": None, "truncated": False, "newest": 4}
    assert past.get(f"/api/events?after={every['events'][0]['id']}")["events"] == []
    assert past.get("/api/events?after=1&before=2", 400)["parameter"] == "before"
    assert past.get("/api/events?before=-1", 400)["parameter"] == "before"


def test_an_event_of_the_future_is_among_all_events(past: Past) -> None:
    past.database.writer.write([Registry((machine("one"), machine("ahead")), loaded_at=past.now + HOUR)])
    assert [event["machine"] for event in past.get("/api/events")["events"]] == ["ahead", "one"]
    assert [event["machine"] for event in past.get("/api/events?to=now")["events"]] == ["one"]


def test_availability_adds_up_and_counts_our_absence_as_unknown(past: Past) -> None:
    past.write_cycles(*[State.OK] * 6, *[State.UNREACHABLE] * 6, State.OK)
    answer = past.get("/api/machines/one/availability?from=-1h")
    seconds = answer["seconds"]
    assert seconds["online"] == pytest.approx(30, abs=1)
    assert seconds["offline"] == pytest.approx(30, abs=1)
    assert sum(seconds.values()) == pytest.approx(HOUR, abs=1)
    assert answer["ratio"] == pytest.approx(0.5, abs=0.02)
    assert answer["outages"] == 1
    assert answer["longest_outage_s"] == seconds["offline"]


def test_the_availability_of_the_fleet_shows_which_machine_is_flaky(past: Past) -> None:
    past.database.writer.write([Registry((machine("one"), machine("steady")), loaded_at=past.now - HOUR)])
    past.write_cycles(State.OK, State.UNREACHABLE, State.OK, State.UNREACHABLE, State.UNREACHABLE, State.OK)
    span = f"from={past.now - 100}&to={past.now}"
    answer = past.get(f"/api/availability?{span}")
    flaky, steady = answer["machines"]
    alone = past.get(f"/api/machines/one/availability?{span}")
    assert alone == flaky | {"from": answer["from"], "to": answer["to"]}
    assert (flaky["machine"], flaky["outages"], flaky["longest_outage_s"]) == ("one", 2, 10)
    nothing = {"online": 0, "degraded": 0, "offline": 0, "unknown": 100}
    assert steady == {
        "machine": "steady",
        "seconds": nothing,
        "ratio": None,
        "outages": 0,
        "longest_outage_s": 0,
    }
    past.database.writer.write([Registry((machine("steady"),), loaded_at=past.now - 50)])
    names = [one["machine"] for one in past.get(f"/api/availability?{span}")["machines"]]
    assert names == ["one", "steady"]
    later = past.get(f"/api/availability?from={past.now - 40}")
    assert [one["machine"] for one in later["machines"]] == ["steady"]
    assert past.get("/api/availability?machine=one", 400)["parameter"] == "machine"


def test_one_metric_of_several_machines_has_the_same_steps(past: Past) -> None:
    past.database.writer.write([Registry((machine("one"), machine("two")), loaded_at=past.now - HOUR)])
    past.database.add(past.now - 10, 7.0)
    path = "/api/history?metric=cpu_percent&from=-1m&step=60"
    answer = past.get(f"{path}&machine=two,ONE&machine=one")
    assert [one["machine"] for one in answer["machines"]] == ["two", "one"]
    alone = past.get("/api/machines/one/history?metric=cpu_percent&from=-1m&step=60")
    assert {"machine": "one", "series": alone.pop("series")} == answer["machines"][1]
    assert alone == {key: answer[key] for key in ("from", "to", "step_s", "tier")} | {"machine": "one"}
    assert answer["machines"][0]["series"][0]["points"] == []
    assert [one["machine"] for one in past.get(path)["machines"]] == ["one", "two"]
    assert past.get(f"{path}&machine=one&machine=three", 404)["did_you_mean"] == []


def test_a_gpu_that_only_some_of_the_machines_have_is_shown_for_those(past: Past) -> None:
    past.database.writer.write([Registry((machine("one"), machine("two")), loaded_at=past.now - HOUR)])
    past.database.add(past.now, vram=2**30)
    one, two = past.get("/api/history?metric=vram_used_gb&gpu=0&from=-1m")["machines"]
    assert [series["gpu"] for series in one["series"]] == [0]
    assert two["series"] == []
    assert "the GPUs of 2 machines are: 0" in past.get("/api/history?gpu=1", 400)["message"]


def test_csv_of_several_machines_names_them(past: Past) -> None:
    past.database.writer.write([Registry((machine("one"), machine("two")), loaded_at=past.now - HOUR)])
    past.database.add(past.now, 7.5)
    response = past.client.get("/api/history?metric=cpu_percent&from=-1m&format=csv")
    assert response.mimetype == "text/csv"
    head, row = list(csv.reader(io.StringIO(response.text)))
    assert head[1] == "one cpu_percent avg [percent]"
    assert head[8] == "two cpu_percent n"
    assert row[1:] == ["7.5", "7.5", "7.5", "1", "", "", "", ""]


def test_models_say_where_declared_where_loaded_and_where_last_seen(past: Past) -> None:
    model = LoadedModel("llama3.1:70b", "d", 2**32, 2**32, 4096)
    for at, listed in ((past.now - 60, (model,)), (past.now - 55, (model,)), (past.now - 50, ())):
        result = polled(OLLAMA, at, listed)
        sidecar = polled(SIDECAR, at, HostSample())
        past.database.writer.write(of_one(sidecar, result))
    stored = tuple(StoredModel(name) for name in ("mistral:7b", "phi3:latest"))
    both = Registry((machine("one"), machine("two")), loaded_at=past.now)
    past.database.writer.write([both, Library("two", "http://127.0.0.1:11434", past.now - 50, stored)])
    models = {model["model"]: model for model in past.get("/api/models?from=-1h")["models"]}
    assert list(models) == ["llama3.1:70b", "mistral:7b", "phi3"]
    assert [models[name]["on_disk"] for name in models] == [[], ["two"], ["two"]]
    llama = models["llama3.1:70b"]
    assert (llama["declared"], llama["loaded"], llama["last_loaded"]["machine"]) == (["two"], [], "one")
    assert llama["residency_s"] == pytest.approx(5)
    assert (llama["resident_on"], models["phi3"]["resident_on"]) == (["one"], [])
    assert models["phi3"]["last_loaded"] is None
    for offset_s, machines in ((-62, []), (-58, ["one"]), (-54, [])):
        at = past.now + offset_s
        (llama, *_) = past.get(f"/api/models?from={at:.3f}&to={at + 1:.3f}")["models"]
        assert llama["resident_on"] == machines


def test_a_long_answer_is_compressed_for_those_who_accept_it(past: Past) -> None:
    past.write_cycles(*(State.OK, State.UNREACHABLE) * 20)
    plain = past.client.get("/api/events")
    assert "Content-Encoding" not in plain.headers
    small = past.client.get("/api/events", headers={"Accept-Encoding": "gzip"})
    assert (small.headers["Content-Encoding"], small.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(small.data) == plain.data
    assert len(small.data) < len(plain.data) / 4
    refused = past.client.get("/api/events", headers={"Accept-Encoding": "gzip;q=0"})
    assert refused.data == plain.data
