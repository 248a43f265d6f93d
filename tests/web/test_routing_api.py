"""Advice and leases over HTTP: what is asked for exactly, and a clear no to what cannot be asked."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from machines_server.core.machine import Registry
from machines_server.core.sample import (
    Cycle,
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    RuntimeState,
    State,
)
from machines_server.inventory.machine_file import parse_machine
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention

GIB = 2**30
LLAMA = LoadedModel("llama3.1:70b", "d1", 40, 40, 8192)
TEXT = """
name: one
role: gpu-host
site: warsaw
spot: true
tags: [a, b]
hardware: {}
network: {hostname: "::1", port: 11434}
models: []
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    """A server that knows one machine, which holds the model and has 10 GiB free."""
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "one.yaml").write_text(TEXT)
    settings, _ = load_settings(
        {"MACHINES_DIR": str(tmp_path / "machines"), "MACHINES_DATA_DIR": str(tmp_path / "var")}
    )
    migrate(settings.telemetry_db)
    connection = open_writer(settings.telemetry_db)
    machine = parse_machine(TEXT.encode(), "one.yaml").machine
    assert machine is not None
    now = time.time()
    gpu = GpuSample(0, "GPU-a", None, "dedicated", 24 * GIB, 14 * GIB, 10 * GIB)
    answers = {
        "sidecar": RuntimeState(host=HostSample(gpu=(gpu,))),
        "ollama": RuntimeState(models=(LLAMA,)),
    }
    retention = Retention(raw_s=3600, minute_s=3600, hour_s=3600)
    SampleWriter(connection, 12, Rollups(connection, retention)).write(
        [
            Registry((machine,), loaded_at=now),
            *(
                PollResult("one", machine.endpoints[one], State.OK, now, 0.01, None, answer)
                for one, answer in answers.items()
            ),
            Cycle(now - 0.1, now, 5, 2),
        ]
    )
    lock = PollerLock(settings.poller_lock, settings.dir)
    assert lock.acquire()
    yield make_app(settings).test_client()
    lock.release()
    connection.close()


def body_of(response: TestResponse) -> dict[str, Any]:
    """The JSON of an answer."""
    assert response.json is not None
    return dict(response.json)


def refused(response: TestResponse, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.json
    assert response.json["error"] == code
    message: str = response.json["message"]
    return message


def test_the_answer_has_the_machine_the_candidates_and_the_rejected(client: FlaskClient) -> None:
    response = client.get(
        "/api/route?model=llama3.1:70b&min_free_vram_gb=4&tag=a&tag=b&where=site:warsaw&role="
    )
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    (candidate,) = body.pop("candidates")
    assert body == {
        "machine": "one",
        "hostname": "::1",
        "port": 11434,
        "url": "http://[::1]:11434",
        "model": "llama3.1:70b",
        "warm": True,
        "rejected": [],
    }
    assert candidate.pop("sampled_at").endswith("Z")
    assert candidate == {
        "name": "one",
        "hostname": "::1",
        "port": 11434,
        "url": "http://[::1]:11434",
        "model": "llama3.1:70b",
        "warm": True,
        "warmth": "warm",
        "free_vram_gb": 10.0,
        "leases": 0,
        "reason": "in memory, 10.0 GiB free on its best GPU",
    }


def test_nobody_fits_is_a_503_with_the_reasons(client: FlaskClient) -> None:
    response = client.get("/api/route?model=llama3.1:70b&min_free_vram_gb=10.5")
    message = refused(response, 503, "no_machine")
    assert "one: needs 10.5, has 10.0 on its best GPU" in message
    body = response.get_json()
    assert body["rejected"] == [
        {"name": "one", "code": "not_enough_vram", "reason": "needs 10.5, has 10.0 on its best GPU (GiB)"}
    ]
    assert body["retry_after_s"] is None
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("model=", "model is empty"),
        ("modl=m", "modl is not known; use model, min_free_vram_gb"),
        ("model=m&model=n", "model is given more than once"),
        ("model=m&min_free_vram_gb=much", "min_free_vram_gb cannot be used"),
        ("model=m&min_free_vram_gb=nan", "min_free_vram_gb cannot be used"),
        ("model=m&min_free_vram_gb=-1", "min_free_vram_gb cannot be used"),
        ("model=m&min_context=1.5", "min_context cannot be used"),
        ("model=m&cold=perhaps", "cold cannot be used"),
        ("model=m&where=warsaw", "use key.path:value"),
        ("model=m&where=:x", "use key.path:value"),
        (f"model={'m' * 600}", "model cannot be used"),
    ],
)
def test_a_question_that_cannot_be_used_says_what_is_wrong(
    client: FlaskClient, query: str, words: str
) -> None:
    assert words in refused(client.get(f"/api/route?{query}"), 400, "bad_parameter")


@pytest.mark.parametrize("path", ["password", "adm.apiKey", "hf_token.x", "a.private key", "api.key"])
def test_a_question_for_a_secret_is_refused_whatever_it_guesses(
    client: FlaskClient, tmp_path: Path, path: str
) -> None:
    keys = "password: hunter2\nadm: {apiKey: hunter2}\nhf_token: {x: hunter2}\n"
    (tmp_path / "machines" / "one.yaml").write_text(f"{TEXT}{keys}")
    question: dict[str, Any] = {"model": "llama3.1:70b"}
    for guess in ("hunter2", "x"):
        answers = [
            client.get("/api/route", query_string={**question, "where": f"{path}:{guess}"}),
            client.post("/api/leases", json={**question, "where": {path: guess}}),
            client.post("/api/leases", json={**question, "where": [f"{path}:{guess}"]}),
        ]
        messages = {refused(answer, 400, "bad_parameter") for answer in answers}
        assert len(messages) == 1
        assert "where" in messages.pop()
        assert not any("hunter2" in answer.text for answer in answers)


@pytest.mark.parametrize(
    "name",
    [
        "a/b/c/d",
        "m:",
        "m@sha256:x",
        "localhost:5000/m",
        "a//b",
        "/m",
        "m:1:",
        "x" * 81,
        "n:" + "t" * 81,
        "mä",
    ],
)
def test_a_name_that_no_model_can_have_is_refused(client: FlaskClient, name: str) -> None:
    asked = client.get("/api/route", query_string={"model": name})
    assert "is not the name of a model" in refused(asked, 400, "bad_parameter")
    refused(client.post("/api/leases", json={"model": name, "cold": True}), 400, "bad_parameter")


def test_a_name_that_a_machine_declares_is_one_whatever_ollama_says(
    client: FlaskClient, tmp_path: Path
) -> None:
    text = TEXT.replace("models: []", 'models: ["/models/a/b/c.gguf"]')
    (tmp_path / "machines" / "one.yaml").write_text(text)
    refused(client.get("/api/route?model=/models/a/b/c.gguf"), 503, "no_machine")
    refused(client.get("/api/route?model=/models/a/b/d.gguf"), 400, "bad_parameter")


def test_near_misses_are_named_closest_first(client: FlaskClient) -> None:
    response = client.get("/api/route?model=ollama/llama3.1:70b")
    message = refused(response, 503, "no_machine")
    assert message.endswith(" Did you mean llama3.1:70b?")
    assert response.get_json()["did_you_mean"] == ["llama3.1:70b"]
    impossible = client.post("/api/leases", json={"model": "ollama/library/x/llama3.1:70b"})
    assert refused(impossible, 400, "bad_parameter").endswith(" Did you mean llama3.1:70b?")
    assert impossible.get_json()["did_you_mean"] == ["llama3.1:70b"]
    known = client.get("/api/route?model=llama3.1:70b&role=other")
    refused(known, 503, "no_machine")
    assert known.get_json()["did_you_mean"] == []


def test_the_same_question_is_answered_anew_when_a_lease_or_a_file_has_changed_something(
    client: FlaskClient, tmp_path: Path
) -> None:
    def free() -> float:
        found: float = client.get("/api/route?model=llama3.1:70b").get_json()["candidates"][0]["free_vram_gb"]
        return found

    assert [free(), free()] == [10.0, 10.0]
    lease = client.post("/api/leases", json={"model": "llama3.1:70b", "min_free_vram_gb": 4}).get_json()[
        "lease"
    ]
    assert free() == 6.0
    client.delete(f"/api/leases/{lease}")
    assert free() == 10.0
    (tmp_path / "machines" / "one.yaml").unlink()
    refused(client.get("/api/route?model=llama3.1:70b"), 503, "no_machine")


def test_a_lease_is_made_renewed_listed_and_released(client: FlaskClient) -> None:
    made = client.post("/api/leases", json={"model": "llama3.1:70b", "min_free_vram_gb": 4, "holder": "me"})
    assert made.status_code == 201
    body = made.get_json()
    assert (body["machine"], body["url"], body["ttl_s"], body["holder"]) == (
        "one",
        "http://[::1]:11434",
        60,
        "me",
    )
    assert body["gpus"] == [{"uuid": "GPU-a", "index": 0, "vram_gb": 4.0}]
    assert [one["name"] for one in body["candidates"]] == ["one"]
    path = f"/api/leases/{body['lease']}"
    renewed = client.post(f"{path}/renew", json={"ttl_s": 600}).get_json()
    assert renewed["expires_at"] > body["expires_at"]
    assert client.get("/api/leases").get_json() == {"leases": [renewed], "total": 1, "expired_10m": 0}
    assert client.get(path).get_json() == renewed
    assert client.delete(path).status_code == 200
    assert client.get("/api/leases").get_json() == {"leases": [], "total": 0, "expired_10m": 0}
    assert "expired or was released" in refused(client.delete(path), 404, "unknown_lease")
    refused(client.post(f"{path}/renew"), 404, "unknown_lease")
    assert "expired or was released" in refused(client.get(path), 404, "unknown_lease")


@pytest.mark.parametrize("query", ["exclude=two,one", "exclude=two&exclude=one", "exclude=,ONE,"])
def test_names_to_exclude_are_given_by_commas_or_by_repetition(client: FlaskClient, query: str) -> None:
    (rejected,) = client.get(f"/api/route?model=llama3.1:70b&{query}").get_json()["rejected"]
    assert (rejected["name"], rejected["code"]) == ("one", "excluded")


@pytest.mark.parametrize("exclude", ["two,one", ["two", "one"], ["two,one"]])
def test_a_lease_excludes_names_as_advice_does(client: FlaskClient, exclude: object) -> None:
    response = client.post("/api/leases", json={"model": "llama3.1:70b", "exclude": exclude})
    assert response.status_code == 503


def test_a_tag_may_have_a_comma_so_that_tags_are_given_by_repetition(client: FlaskClient) -> None:
    refused(client.get("/api/route?model=llama3.1:70b&tag=a,b"), 503, "no_machine")
    assert client.get("/api/route?model=llama3.1:70b&tag=a&tag=b").status_code == 200


def test_a_repeated_idempotency_key_gets_the_same_lease(client: FlaskClient) -> None:
    body, key = {"model": "llama3.1:70b"}, {"Idempotency-Key": "k"}
    first = client.post("/api/leases", json=body, headers=key).get_json()
    again = client.post("/api/leases", json=body, headers=key)
    assert again.status_code == 201
    assert again.get_json()["lease"] == first["lease"]
    other = client.post("/api/leases", json=body | {"cold": True}, headers=key)
    assert "use a new one" in refused(other, 409, "idempotency_conflict")
    assert client.get("/api/leases").get_json()["total"] == 1
    refused(
        client.post("/api/leases", json=body, headers={"Idempotency-Key": "k" * 201}), 400, "bad_parameter"
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "model is missing"),
        ([], "is not a JSON object"),
        ({"model": 1}, "model cannot be used"),
        ({"model": "m", "ttl_s": 0.9}, "ttl_s cannot be used"),
        ({"model": "m", "ttl_s": 3601}, "ttl_s cannot be used"),
        ({"model": "m", "ttl": 60}, "ttl is not known"),
        ({"model": "m", "holder": "x" * 201}, "holder cannot be used"),
        ({"model": "m", "tag": {"a": 1}}, "tag cannot be used"),
        ({"model": "m", "where": {"": "a"}}, "use key.path:value"),
        ({"model": "m", "min_free_vram_gb": True}, "min_free_vram_gb cannot be used"),
        ({"model": "m", "min_free_vram_gb": "4"}, "min_free_vram_gb cannot be used"),
        ({"model": "m", "cold": 1}, "cold cannot be used"),
    ],
)
def test_a_body_that_cannot_be_used_says_what_is_wrong(client: FlaskClient, body: Any, words: str) -> None:
    response = client.post("/api/leases", json=body)
    assert words in refused(response, 400, "bad_parameter")


def test_conditions_may_be_a_mapping_and_a_single_tag_a_text(client: FlaskClient) -> None:
    body = {
        "model": "llama3.1:70b",
        "where": {"site": "warsaw", "network.port": 11434, "spot": True},
        "tag": "a",
    }
    assert client.post("/api/leases", json=body).status_code == 201


def test_what_is_no_json_too_large_or_another_method_is_refused(client: FlaskClient) -> None:
    assert "not JSON" in refused(client.post("/api/leases", data=b"{"), 400, "bad_request")
    refused(client.post("/api/leases", data=b"x" * (2**20 + 1)), 413, "request_entity_too_large")
    refused(client.put("/api/leases", json={}), 405, "method_not_allowed")
    refused(client.post("/api/route", json={}), 405, "method_not_allowed")


def test_leases_that_cannot_be_read_are_an_error_and_not_taken_for_none(
    client: FlaskClient, tmp_path: Path
) -> None:
    (tmp_path / "var" / "coordination.db").mkdir()
    assert "coordination.db" in refused(client.get("/api/route?model=llama3.1:70b"), 503, "store_unavailable")


def test_parameters_of_a_lease_belong_into_the_body(client: FlaskClient) -> None:
    refused = client.post("/api/leases?cold=true", json={"model": "llama3.1:70b"})
    assert refused.status_code == 400
    assert "send it in the JSON body" in body_of(refused)["message"]
    assert client.get("/api/leases?holder=me").status_code == 400
    assert body_of(client.get("/api/leases"))["total"] == 0


def test_null_in_a_body_is_the_same_as_leaving_it_out(client: FlaskClient) -> None:
    given = dict.fromkeys(("min_free_vram_gb", "role", "tag", "where", "cold", "ttl_s", "holder", "wait_s"))
    lease = client.post("/api/leases", json={"model": "llama3.1:70b", **given})
    assert lease.status_code == 201
    assert (
        client.post(f"/api/leases/{body_of(lease)['lease']}/renew", json={"ttl_s": None}).status_code == 200
    )
    missing = client.post("/api/leases", json={"model": None})
    assert (missing.status_code, body_of(missing)["message"]) == (400, "The parameter model is missing.")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/api/route?modle=a", "model"),
        ("/api/events?typ=online", "type"),
        ("/api/route?min_free_vram=1", "min_free_vram_gb"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_one_that_may_be_meant(
    client: FlaskClient, path: str, meant: str
) -> None:
    refused = client.get(path)
    assert refused.status_code == 400
    assert body_of(refused)["did_you_mean"][0] == meant


def test_a_wrong_method_is_told_which_ones_there_are(client: FlaskClient) -> None:
    refused = client.put("/api/leases")
    assert (refused.status_code, body_of(refused)["error"]) == (405, "method_not_allowed")
    assert "it supports GET, HEAD, OPTIONS, POST." in body_of(refused)["message"]


@pytest.mark.parametrize(
    ("wanted", "fits"), [("24", True), ("24.0", True), ("2.4e1", True), ("24x", False), ("true", False)]
)
def test_numbers_of_a_file_are_compared_as_numbers(
    client: FlaskClient, tmp_path: Path, wanted: str, fits: bool
) -> None:
    file = tmp_path / "machines" / "one.yaml"
    file.write_text(file.read_text().replace("site: warsaw", "site: 24"))
    codes = {one["code"] for one in body_of(client.get(f"/api/route?where=site:{wanted}"))["rejected"]}
    assert ("where" not in codes) is fits
