"""The one machine of the tests of advice and leases, and how their answers are read."""

from typing import Any

from werkzeug.test import TestResponse

from machines_server.core.sample import (
    LoadedModel,
)

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
