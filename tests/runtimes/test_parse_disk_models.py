"""How an Ollama's list of models on disk is read."""

import json
from typing import Any

import pytest

from machines_server.core.sample import StoredModel
from tests.bodies import sha, tags_body
from tests.runtimes.reading import parse_tags, read_tags


@pytest.mark.parametrize("size", [-1, 4.5, "4", 2**63])
def test_a_model_on_disk_with_an_odd_size_is_there_all_the_same(size: Any) -> None:
    body = json.dumps({"models": [{"name": "a", "size": size, "digest": 1}, {"name": "b", "size": 2}]})
    models, odd = read_tags(body.encode())
    assert models == (StoredModel("a"), StoredModel("b", None, 2))
    assert odd.kinds == {"models[].size", "models[].digest"}


def test_what_is_on_disk_has_a_name_a_digest_and_a_size() -> None:
    phi, llama = sha("phi"), sha("llama")
    body = tags_body(("phi3:mini", f"sha256:{phi}", 2), ("llama3.1:70b", llama, 40), ("bare", "", 0))
    assert parse_tags(body) == (
        StoredModel("bare"),
        StoredModel("llama3.1:70b", llama, 40),
        StoredModel("phi3:mini", phi, 2),
    )
    assert parse_tags(b'{"models": null}') == ()


def test_a_model_of_a_cloud_is_on_nobodys_disk() -> None:
    cloud = {"name": "gpt-oss:120b-cloud", "size": 384, "remote_host": "https://ollama.com:443"}
    bridged = {"name": "m2", "remote_model": "glm"}
    named = [{"name": name} for name in ("glm:cloud", "Kimi:1T-Cloud", "my-cloud", "cloud:8b")]
    found = parse_tags(json.dumps({"models": [cloud, bridged, {"name": "m:latest"}, *named]}).encode())
    assert {model.model for model in found if model.is_remote} == {
        "gpt-oss:120b-cloud",
        "m2",
        "glm:cloud",
        "Kimi:1T-Cloud",
    }
    assert StoredModel("m:latest") in found
