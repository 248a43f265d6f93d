"""Advice over HTTP: exactly what is requested, and a clear error for invalid requests."""

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.web.one_machine import TEXT, body_of, refused


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
        "credential": None,
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
        "credential": None,
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
    assert "one: needs 10.5 GiB, has 10.0 GiB free on its best GPU" in message
    body = response.get_json()
    assert body["rejected"] == [
        {
            "name": "one",
            "code": "not_enough_vram",
            "reason": "needs 10.5 GiB, has 10.0 GiB free on its best GPU",
        }
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
        ("model=m&min_free_vram_gb=1_0", "min_free_vram_gb cannot be used: use a number such as 8 or 2.5"),
        ("model=m&min_context=1_000", "min_context cannot be used: use a number"),
        ("model=m&wait_s=%D9%A1", "wait_s cannot be used: use a number"),
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


@pytest.mark.parametrize("query", ["exclude=two,one", "exclude=two&exclude=one", "exclude=,ONE,"])
def test_names_to_exclude_are_given_by_commas_or_by_repetition(client: FlaskClient, query: str) -> None:
    (rejected,) = client.get(f"/api/route?model=llama3.1:70b&{query}").get_json()["rejected"]
    assert (rejected["name"], rejected["code"]) == ("one", "excluded")


def test_a_tag_may_have_a_comma_so_that_tags_are_given_by_repetition(client: FlaskClient) -> None:
    refused(client.get("/api/route?model=llama3.1:70b&tag=a,b"), 503, "no_machine")
    assert client.get("/api/route?model=llama3.1:70b&tag=a&tag=b").status_code == 200


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
