"""What commands say about machines, from the API's answer about one."""

from typing import Any

import pytest

from machines_server.cli.fleet_text import free_vram_text, leased_vram, reason_and_hint

NO_ANSWER = "no answer within 2 s on an open connection"
BUSY = {"state": "busy", "message": f"{NO_ANSWER}: it is usually loading a model"}


@pytest.mark.parametrize(
    ("status", "network", "reason", "hint"),
    [
        ("offline", {}, f"sidecar and ollama: {NO_ANSWER}", ""),
        ("offline", {"sidecar": False}, f"ollama: {NO_ANSWER}", "it is usually loading a model"),
        ("online", {}, f"ollama: {NO_ANSWER}", "it is usually loading a model"),
    ],
)
def test_only_an_ollama_that_is_silent_alone_may_be_loading(
    status: str, network: dict[str, Any], reason: str, hint: str
) -> None:
    machine = {"status": status, "status_reason": reason, "network": network, "ollama": BUSY}
    assert reason_and_hint(machine) == (reason, hint)


def test_a_fix_is_given_without_the_reason_of_both_endpoints() -> None:
    ollama = {"state": "unreachable", "message": "connection refused: start Ollama"}
    reason = "sidecar and ollama: connection refused"
    machine = {"status": "offline", "status_reason": reason, "network": {}, "ollama": ollama}
    assert reason_and_hint(machine) == (reason, "start Ollama")


def test_free_vram_is_what_leases_leave_of_each_gpu() -> None:
    gpus = [{"uuid": "a", "vram_free_gb": 24.0}, {"uuid": "b", "vram_free_gb": None}]
    machine = {"status": "online", "telemetry": {"gpu": gpus}}
    leases = [{"gpus": [{"uuid": "a", "vram_gb": size}, {"uuid": "b", "vram_gb": size}]} for size in (8, 2)]
    assert free_vram_text(machine, {}) == "24 + - GiB"
    assert free_vram_text(machine, leased_vram(leases)) == "14 + - GiB"
    assert free_vram_text(machine, {"a": 30.0}) == "0 + - GiB"
