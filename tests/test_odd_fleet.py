"""A day with look-alikes, a bridge, a cloud and an AMD host: they are believed as far as possible."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.bodies import GIB, http, sha, tags_body
from tests.day import Day, Host, loaded
from tests.fakes import FakeFleet, wait_until
from tests.running import RunningServer

SMALL, QWEN, CLOUD = "llama3.2:3b", "qwen2.5:32b", "gpt-oss:120b-cloud"
DISK = (SMALL, sha(SMALL), 2 * GIB)


@pytest.fixture
def day(tmp_path: Path, fakes: FakeFleet) -> Iterator[Day]:
    with RunningServer(tmp_path, MACHINES_POLL_INTERVAL_S="0.8") as server:
        yield Day(server, fakes)


def lease(day: Day, **wanted: Any) -> dict[str, Any]:
    """A lease that was granted."""
    answer = day.server.post("/api/leases", wanted)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_digests_are_proof_and_unmeasured_memory_is_unknown(day: Day) -> None:
    local = Host(day, "local", [4.0])
    local.stores(DISK)
    local.holds(loaded(SMALL, gb=3))
    bridge = Host(day, "bridge", [])
    bridge.stores(("gpt-4o-mini", sha(SMALL), 0), ("gpt-4o", "dummy", 1), ("o3", "0" * 64, 1))
    day.becomes({"best": "local", "local": "warm", "bridge": "model_not_loaded"}, SMALL)
    for _ in range(2):
        for model in ("gpt-4o-mini", "gpt-4o", "o3"):
            day.becomes({"best": None, "local": "model_not_loaded", "bridge": "model_not_loaded"}, model)
        local.holds(loaded(SMALL, gb=3), loaded("tiny", gb=1, digest="dummy"))

    local.stores(DISK, ("mine:latest", sha(SMALL), 2 * GIB))  # `ollama cp`, and asked for at once
    body = day.becomes({"best": "local", "local": "warm", "bridge": "model_not_loaded"}, "mine")
    assert body["model"] == "mine"

    amd = Host(day, "amd", [], hardware={"gpu": [{"model": "Radeon", "vram_gb": 24}]}, models=[QWEN])
    amd.stores((QWEN, sha(QWEN), 38 * GIB))
    rest = {"local": "model_not_there", "bridge": "model_not_there"}
    day.becomes({"best": "amd", "amd": "cold"} | rest, QWEN, cold="true")
    wait_until(lambda: day.asked(QWEN, cold="true") and day.body["candidates"][0]["needs_gb"] == 47.5)
    (cold,) = day.body["candidates"]
    assert (cold["fits"], cold["needs_from"], cold["free_vram_gb"]) == ("unknown", "estimated", None)
    amd.holds(loaded(QWEN, gb=20, on_gpu=0.3))
    rest = {"local": "model_not_loaded", "bridge": "model_not_loaded"}
    body = day.becomes({"best": "amd", "amd": "half_warm"} | rest, QWEN)
    assert body["candidates"][0]["free_vram_gb"] is None
    assert "70%/30%" in day.reason("amd")
    day.becomes({"best": None, "amd": "vram_unknown"} | rest, QWEN, min_free_vram_gb=1)
    local.stores(DISK, (QWEN, sha(QWEN), 38 * GIB))
    amd.holds()
    both = {"best": "amd", "amd": "cold", "local": "cold", "bridge": "model_not_there"}
    wait_until(lambda: day.asked(QWEN, cold="true") in (both, both | {"best": "local"}))
    assert {one["name"]: one["needs_from"] for one in day.body["candidates"]} == {
        "amd": "learned",
        "local": "learned_elsewhere",
    }


def test_what_was_deleted_restarted_or_runs_in_a_cloud_is_told_as_it_is(day: Day) -> None:
    first, second = Host(day, "first", [2.0], models=[QWEN]), Host(day, "second", [])
    first.stores((QWEN, sha(QWEN), 10 * GIB))
    second.ollama.answers["/api/tags"] = http(
        tags_body((CLOUD, sha(CLOUD), 384)).replace(b'"details"', b'"remote_host": "https://x", "details"')
    )
    day.becomes({"best": "second", "second": "warm", "first": "model_not_loaded"}, CLOUD)
    held = lease(day, model=CLOUD, min_free_vram_gb=8, cold=True, ttl_s=600)
    assert (held["machine"], held["warm"], held["gpus"]) == ("second", True, [])
    day.becomes({"best": "second", "second": "warm", "first": "model_not_loaded"}, CLOUD)

    day.becomes({"best": "first", "first": "cold", "second": "model_not_there"}, QWEN, cold="true")
    assert lease(day, model=QWEN, cold=True, ttl_s=600)["machine"] == "first"
    day.becomes({"best": None, "first": "loading", "second": "model_not_loaded"}, QWEN)
    first.ollama.stop()
    day.becomes({"best": None, "first": "ollama_unreachable", "second": "model_not_loaded"}, QWEN)
    first.ollama.start()
    day.becomes({"best": None, "first": "model_not_loaded", "second": "model_not_loaded"}, QWEN)
    day.becomes({"best": "first", "first": "cold", "second": "model_not_there"}, QWEN, cold="true")

    first.holds(loaded(QWEN, gb=12))
    day.becomes({"best": "first", "first": "warm", "second": "model_not_loaded"}, QWEN)
    began = time.time()
    until = began + 20
    while day.asked(QWEN)["first"] != "half_warm":  # the request that loaded it is running
        assert time.time() < until, day.body
        first.holds(loaded(QWEN, gb=12, leaves_in_s=300))
    assert "in use" in day.reason("first")
    leaves = (datetime.now(UTC) + timedelta(seconds=300)).isoformat()
    first.holds(loaded(QWEN, gb=12, expires_at=leaves))
    day.becomes({"best": "first", "first": "warm", "second": "model_not_loaded"}, QWEN)

    first.stores()  # it was the only one, and was deleted while it was loaded
    first.ollama.stop()
    day.becomes({"best": None, "first": "ollama_unreachable", "second": "model_not_loaded"}, QWEN)
    first.ollama.start()
    day.becomes({"best": None, "first": "model_not_loaded", "second": "model_not_loaded"}, QWEN)
    assert "deleted" in day.reason("first")
