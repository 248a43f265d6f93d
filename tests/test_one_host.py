"""A day of one host that is declared in two files, one for each of its Ollamas."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.bodies import GIB, gpu_body, http, sidecar_body
from tests.day import LLAMA, QWEN, Day, Host, loaded
from tests.fakes import FakeFleet, wait_until
from tests.running import RunningServer

A, B = "GPU-aaa", "GPU-bbb"
SMALL = "llama3.1:8b"


class OneHost(Day):
    """Two Ollamas beside one sidecar; GPU-aaa has 20 of 24 GiB free, GPU-bbb 8."""

    def __init__(self, server: RunningServer, fakes: FakeFleet) -> None:
        super().__init__(server, fakes)
        self.first = Host(self, "first", None)
        self.uses(4.0, 16.0)
        self.first.holds(loaded(gb=2))
        self.second = Host(self, "second", None)
        self.second.holds(loaded(gb=2))
        self.second_uses()

    def second_uses(self, **network: Any) -> None:
        """The second file names the same sidecar."""
        ours = {"sidecar_port": self.first.sidecar.port}
        self.second.declare(network=self.second.declared["network"] | ours | network)

    def uses(self, *used_gb: float) -> None:
        """So much VRAM is used on each card."""
        cards = (gpu_body(at, used_gb=used, uuid=(A, B)[at]) for at, used in enumerate(used_gb))
        self.first.sidecar.answer = http(sidecar_body(*cards))

    def free_gb(self, **question: Any) -> dict[str, float | None]:
        """What the candidates say is free."""
        self.asked(**question)
        return {one["name"]: one["free_vram_gb"] for one in self.body.get("candidates", ())}

    def lease(self, **body: Any) -> requests.Response:
        """Ask for a lease."""
        return requests.post(f"{self.server.url}/api/leases", json={"model": LLAMA} | body, timeout=60)

    def release(self, lease: requests.Response) -> None:
        """Give it back."""
        requests.delete(f"{self.server.url}/api/leases/{lease.json()['lease']}", timeout=60)


@pytest.fixture
def day(tmp_path: Path, fakes: FakeFleet) -> Iterator[OneHost]:
    with RunningServer(tmp_path, MACHINES_POLL_INTERVAL_S="0.8") as server:
        yield OneHost(server, fakes)


def test_a_day_of_two_files_that_are_one_host(day: OneHost) -> None:
    day.becomes({"best": "first", "first": "warm", "second": "warm"})
    for path in ("/api/machines", "/api/infrastructure"):
        (told,) = day.server.get(path).json()["errors"]
        assert told["severity"] == "warning"
        assert "first.yaml and second.yaml describe one host: both have the sidecar" in told["message"]

    # In the morning two agents want 12 GiB each, and there is one card that has them.
    one = day.lease(min_free_vram_gb=12, ttl_s=600)
    assert one.status_code == 201
    assert one.json()["gpus"] == [{"uuid": A, "index": 0, "vram_gb": 12.0}]
    refused = day.lease(min_free_vram_gb=12)
    assert refused.status_code == 503
    assert {no["name"]: no["code"] for no in refused.json()["rejected"]} == {
        "first": "leased",
        "second": "leased",
    }
    assert 590 < refused.json()["retry_after_s"] <= 600
    assert day.free_gb() == {"first": 8.0, "second": 8.0}
    renewed = requests.post(f"{day.server.url}/api/leases/{one.json()['lease']}/renew", timeout=60)
    assert renewed.json()["gpus"] == one.json()["gpus"]

    # Its Ollama is restarted, and the lease outlives that.
    port = day.first.ollama.port
    holder = next(host for host in (day.first, day.second) if host.name == one.json()["machine"])
    holder.ollama.stop()
    wait_until(lambda: day.asked().get(holder.name) == "ollama_unreachable")
    renew = f"{day.server.url}/api/leases/{one.json()['lease']}/renew"
    assert requests.post(renew, timeout=60).status_code == 200
    holder.ollama.start()
    assert day.first.ollama.port == port
    day.becomes({"best": "second", "first": "warm", "second": "warm"})
    day.release(one)

    # At noon 64 agents come at once.
    with ThreadPoolExecutor(64) as agents:
        given = [*agents.map(lambda _: day.lease(min_free_vram_gb=1.5, ttl_s=600), range(64))]
    held = [lease for lease in given if lease.status_code == 201]
    promised = Counter[str]()
    for lease in held:
        promised.update({gpu["uuid"]: gpu["vram_gb"] for gpu in lease.json()["gpus"]})
    assert promised == {A: 19.5, B: 7.5}  # 13 and 5 of them
    assert len(held) == 18
    for lease in held:
        day.release(lease)

    # Each Ollama gets a card of its own, and the owner keeps a part of the first.
    day.first.declare(
        network=day.first.declared["network"] | {"gpus": [0]},
        hardware={"gpu": [{"index": 0, "uuid": A}, {"index": 1, "uuid": B}]},
        limits={"reserve_vram_gb": 4},
    )
    day.second_uses(gpus=[B])
    wait_until(lambda: day.free_gb() == {"first": 16.0, "second": 8.0})
    lease = day.lease(min_free_vram_gb=16)
    assert lease.json()["machine"] == "first"
    assert day.free_gb() == {"first": 0.0, "second": 8.0}
    day.release(lease)

    # In the evening a large model is to be loaded, where an Ollama claims more than there is.
    day.first.holds(loaded("phi3:mini", gb=40))
    day.second.holds()
    day.uses(12.5, 16.0)
    for host in (day.first, day.second):
        host.declare(models=[QWEN])
        host.stores((QWEN, "digest of it", 8 * GIB), ("phi3:mini", "another", 2 * GIB))

    def is_cold() -> bool:
        day.asked(QWEN, cold="true")
        return [one["free_vram_gb"] for one in day.body.get("candidates", ())] == [7.5]

    wait_until(is_cold)
    (cold,) = day.body["candidates"]
    assert (cold["name"], cold["fits"], cold["reclaimable_vram_gb"]) == ("first", "after_eviction", 12.5)
    day.first.declare(limits={"reserve_vram_gb": 0, "max_loaded_models": 1})
    wait_until(lambda: day.asked(QWEN, cold="true") and day.body["candidates"][0]["free_vram_gb"] == 11.5)
    (cold,) = day.body["candidates"]
    assert (cold["fits"], cold["evicts"]) == ("after_eviction", ["phi3:mini"])
    assert day.lease(model="phi3:mini", ttl_s=600).status_code == 201
    body = day.becomes({"best": None, "first": "leased", "second": "not_enough_vram"}, QWEN, cold="true")
    assert "at most 1 models" in body["rejected"][0]["reason"]


def test_two_sidecars_that_show_one_card_are_one_host(day: OneHost) -> None:
    day.second.sidecar.answer = day.first.sidecar.answer
    day.second_uses(sidecar_port=day.second.sidecar.port)
    day.becomes({"best": "first", "first": "warm", "second": "warm"})

    def told() -> list[str]:
        return [one["message"] for one in day.server.get("/api/infrastructure").json()["errors"]]

    wait_until(lambda: told() and f"both report the GPU {A}" in told()[0])
    assert "first.yaml and second.yaml describe one host" in told()[0]
    assert told() == [one["message"] for one in day.server.get("/api/machines").json()["errors"]]
    assert day.lease(min_free_vram_gb=12).status_code == 201
    assert day.lease(min_free_vram_gb=12).status_code == 503


def test_a_name_that_is_nearly_right_is_told(day: OneHost) -> None:
    name = "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"
    day.first.holds(loaded(SMALL, gb=1), loaded(name, gb=1))
    for asked, meant in (
        ("llama3.1", SMALL),
        (f"ollama/{SMALL}", SMALL),
        (name.replace("hf.co", "huggingface.co"), name),
    ):
        day.becomes({"best": None, "first": "model_not_loaded", "second": "model_not_loaded"}, asked)
        wait_until(
            lambda asked=asked, meant=meant: (  # type: ignore[misc]  # bound by default
                day.asked(asked) and day.body["did_you_mean"][:1] == [meant]
            )
        )
        assert f"Did you mean {meant}" in day.body["message"]
        refused = day.lease(model=asked)
        assert (refused.status_code, refused.json()["did_you_mean"][0]) == (503, meant)
    day.becomes(
        {"best": "second", "first": "model_not_loaded", "second": "not_enough_vram"} | {"best": None},
        LLAMA,
        min_free_vram_gb=24,
    )
    assert day.body["did_you_mean"] == []  # nobody is free, but the name is right
