"""What an operator is told to do about an endpoint that does not answer."""

import pytest

from machines_server.core.hints import hint
from machines_server.core.registry import Endpoint
from machines_server.core.sample import State
from tests.core.machines import a_machine

REMOTE = a_machine(hostname="workstation.lan", port=8080)


def test_a_name_that_is_not_found_points_at_the_file_whichever_the_endpoint() -> None:
    for endpoint in Endpoint:
        for reason in ("name not found", "name not resolved within 2 s"):
            advice = hint(REMOTE, endpoint, State.UNREACHABLE, reason) or ""
            assert "network.hostname in one.yaml" in advice


def test_an_unreachable_ollama_is_told_to_listen_on_its_own_port() -> None:
    advice = hint(REMOTE, Endpoint.OLLAMA, State.UNREACHABLE, "connection refused") or ""
    assert "OLLAMA_HOST=0.0.0.0:8080" in advice


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1", "::1"])
def test_an_ollama_on_this_very_machine_need_not_listen_elsewhere(hostname: str) -> None:
    advice = hint(a_machine(hostname=hostname), Endpoint.OLLAMA, State.UNREACHABLE, "connection refused")
    assert advice == "start Ollama, or set network.ollama: false"


def test_an_unreachable_sidecar_is_to_be_started() -> None:
    advice = hint(REMOTE, Endpoint.SIDECAR, State.UNREACHABLE, "connection refused") or ""
    assert "make run-sidecar" in advice
    assert "network.sidecar: false" in advice


def test_a_busy_ollama_is_loading_a_model_and_a_busy_sidecar_is_not() -> None:
    assert "loading" in (hint(REMOTE, Endpoint.OLLAMA, State.BUSY, "no answer") or "")
    assert hint(REMOTE, Endpoint.SIDECAR, State.BUSY, "no answer") is None


def test_a_wrong_answer_points_at_the_port_in_the_file() -> None:
    assert "network.port in one.yaml" in (hint(REMOTE, Endpoint.OLLAMA, State.ERROR, "HTML, not JSON") or "")
    sidecar = hint(REMOTE, Endpoint.SIDECAR, State.ERROR, "HTTP status 403") or ""
    assert "network.sidecar_port in one.yaml" in sidecar


def test_a_forbidden_ollama_is_behind_a_proxy_or_its_origins() -> None:
    assert "OLLAMA_ORIGINS" in (hint(REMOTE, Endpoint.OLLAMA, State.ERROR, "HTTP status 403") or "")


def test_words_of_the_host_do_not_choose_the_advice() -> None:
    advice = hint(REMOTE, Endpoint.OLLAMA, State.ERROR, "digest: 'name not found' is not a text") or ""
    assert "network.hostname" not in advice


def test_an_endpoint_that_answers_needs_no_hint() -> None:
    assert hint(REMOTE, Endpoint.OLLAMA, State.OK, "") is None
