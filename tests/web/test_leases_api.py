"""Leases over HTTP: exactly what is requested, and a clear error for invalid requests."""

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.web.one_machine import body_of, refused


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


@pytest.mark.parametrize("exclude", ["two,one", ["two", "one"], ["two,one"]])
def test_a_lease_excludes_names_as_advice_does(client: FlaskClient, exclude: object) -> None:
    response = client.post("/api/leases", json={"model": "llama3.1:70b", "exclude": exclude})
    assert response.status_code == 503


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


def test_a_wrong_method_is_told_which_ones_there_are(client: FlaskClient) -> None:
    refused = client.put("/api/leases")
    assert (refused.status_code, body_of(refused)["error"]) == (405, "method_not_allowed")
    assert "it supports GET, HEAD, OPTIONS, POST." in body_of(refused)["message"]
