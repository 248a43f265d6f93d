"""A day in the life of a fleet: at each step the advice is right, and the events tell the same story."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.bodies import GIB, sha
from tests.day import LLAMA, QWEN, Day, Host, Story, loaded
from tests.fakes import FakeFleet, wait_until
from tests.guide import route as route_of_the_guide
from tests.running import RunningServer


@pytest.fixture
def day(tmp_path: Path, fakes: FakeFleet) -> Iterator[Day]:
    with RunningServer(tmp_path, MACHINES_POLL_INTERVAL_S="0.8") as server:
        yield Day(server, fakes)


def test_a_model_comes_spills_expires_and_goes_and_a_host_dies_and_comes_back(day: Day) -> None:
    first = Host(day, "first", [4.0, 2.0], models=[LLAMA])
    second = Host(day, "second", [1.0])
    day.becomes({"best": None, "first": "model_not_loaded", "second": "model_not_loaded"})
    assert "declared for it" in day.reason("first")

    first.uses(22.0, 2.0)
    first.holds(loaded())
    day.becomes({"best": "first", "first": "warm", "second": "model_not_loaded"})
    assert route_of_the_guide(day.server.url, LLAMA) == ("first", "127.0.0.1")

    second.holds(loaded(gb=0.5))
    day.becomes({"best": "second", "first": "warm", "second": "warm"})
    assert [one["free_vram_gb"] for one in day.body["candidates"]] == [23.0, 22.0]
    day.server.let_all_workers_know()
    assert route_of_the_guide(day.server.url, LLAMA) == ("second", "127.0.0.1")

    second.holds(loaded(gb=0.5, on_gpu=0.5))
    day.becomes({"best": "first", "first": "warm", "second": "half_warm"})
    assert "50%/50% CPU/GPU" in day.reason("second")

    first.holds(loaded(leaves_in_s=20))
    day.becomes({"best": "second", "first": "half_warm", "second": "half_warm"})
    assert "will be unloaded in" in day.reason("first")
    first.holds(loaded(leaves_in_s=-5))
    wait_until(lambda: day.asked() and "in use" in day.reason("first"))
    first.holds(loaded())
    day.becomes({"best": "first", "first": "warm", "second": "half_warm"})
    day.becomes({"best": "second", "first": "half_warm", "second": "half_warm"}, min_context=16384)

    second.holds()
    day.becomes({"best": "first", "first": "warm", "second": "model_not_loaded"})
    day.becomes({"best": None, "first": "not_enough_vram", "second": "model_not_loaded"}, min_free_vram_gb=23)

    first.ollama.stop()  # first: a machine whose sidecar answers is online
    first.sidecar.stop()
    day.becomes({"best": None, "first": "offline", "second": "model_not_loaded"})
    assert "connection refused" in day.reason("first")
    first.ollama.start()
    day.becomes({"best": None, "first": "degraded", "second": "model_not_loaded"})
    first.sidecar.start()
    day.becomes({"best": "first", "first": "warm", "second": "model_not_loaded"})

    first.ollama.answer = None
    day.becomes({"best": "first", "first": "half_warm", "second": "model_not_loaded"})
    assert "busy" in day.reason("first")
    first.ollama.stop()
    day.becomes({"best": None, "first": "ollama_unreachable", "second": "model_not_loaded"})

    story = [event for event in day.story() if event[1] != "machine_added"]
    assert [event for event in story if event[0] == "second"] == [
        ("second", "online"),
        ("second", "model_loaded"),
        ("second", "model_unloaded"),  # spilled: it was loaded with another share of it on the GPU
        ("second", "model_loaded"),
        ("second", "model_unloaded"),
    ]
    assert [event for event in story if event[0] == "first"] == [
        ("first", "online"),
        ("first", "model_loaded"),
        ("first", "offline"),
        ("first", "degraded"),
        ("first", "online"),
    ]


def test_files_and_other_names_count_as_soon_as_they_are_there(day: Day) -> None:
    named = Host(day, "named", [20.0], role="gpu-host", tags=["primary", "gpu"], site="warsaw")
    named.holds(loaded())
    day.becomes(
        {"best": "named", "named": "warm"}, role="gpu-host", tag=["gpu", "primary"], where="site:warsaw"
    )
    named.declare(site="krakow")
    day.becomes({"best": None, "named": "where"}, where="site:warsaw")
    assert day.reason("named") == "its site is krakow, not warsaw"

    alias = Host(day, "alias", [1.0])
    alias.holds(loaded("mine:latest", digest=sha(LLAMA), gb=1))
    body = day.becomes({"best": "alias", "named": "warm", "alias": "warm"})
    assert body["model"] == "mine:latest"
    day.becomes({"best": "named", "named": "warm", "alias": "excluded"}, exclude="ALIAS")

    cpu = Host(day, "cpu", None)
    cpu.holds(loaded("phi3:mini", gb=3, on_gpu=0))
    body = day.becomes(
        {"best": "cpu", "cpu": "warm", "named": "model_not_loaded", "alias": "model_not_loaded"}, "phi3:mini"
    )
    assert body["candidates"][0]["free_vram_gb"] == 0.0

    (day.server.machines / "alias.yaml").unlink()
    day.becomes({"best": "named", "named": "warm", "cpu": "model_not_loaded"})
    assert ("alias", "machine_removed") in wait_for(day, lambda story: ("alias", "machine_removed") in story)


def wait_for(day: Day, there: Callable[[Story], bool]) -> Story:
    wait_until(lambda: there(day.story()))
    return day.story()


def test_a_lease_for_a_cold_model_is_loaded_once_and_counted_once(day: Day) -> None:
    host = Host(day, "host", [2.0], models=[QWEN])
    host.stores((QWEN, sha(QWEN), 12 * GIB))
    other = Host(day, "other", [1.0])
    cold = {"best": "host", "host": "cold", "other": "model_not_there"}
    wait_until(
        lambda: (
            day.asked(QWEN, cold="true") == cold and day.body["candidates"][0]["needs_from"] == "estimated"
        )
    )
    (one,) = day.body["candidates"]
    assert (one["fits"], one["needs_gb"], one["load_from"]) == ("free", 15.0, "estimated")
    assert day.body["warm"] is False

    made = requests.post(
        f"{day.server.url}/api/leases", json={"model": QWEN, "cold": True, "ttl_s": 600}, timeout=10
    )
    assert made.status_code == 201
    assert made.json()["gpus"] == [{"uuid": "host-0", "index": 0, "vram_gb": 15.0}]
    day.becomes({"best": None, "host": "loading", "other": "model_not_loaded"}, QWEN)
    assert day.body["retry_after_s"] >= 1
    body = day.becomes({"best": "host", "host": "loading", "other": "model_not_there"}, QWEN, cold="true")
    assert body["candidates"][0]["free_vram_gb"] == 7.0
    wanted = {"model": QWEN, "cold": True, "min_free_vram_gb": 10}
    refused = requests.post(f"{day.server.url}/api/leases", json=wanted, timeout=60)
    assert (refused.status_code, refused.json()["rejected"][0]["code"]) == (503, "leased")
    wanted["min_free_vram_gb"] = 6
    joined = requests.post(f"{day.server.url}/api/leases", json=wanted, timeout=60).json()
    assert (joined["machine"], joined["warm"]) == ("host", False)
    assert joined["gpus"] == [{"uuid": "host-0", "index": 0, "vram_gb": 6.0}]
    requests.delete(f"{day.server.url}/api/leases/{joined['lease']}", timeout=60)

    day.is_polled_since("host", made.json()["created_at"])
    host.uses(16.0)  # the model came, and takes less than was promised
    host.holds(loaded(QWEN, gb=14))
    body = day.becomes({"best": "host", "host": "warm", "other": "model_not_loaded"}, QWEN)
    wait_until(lambda: day.asked(QWEN) and day.body["candidates"][0]["free_vram_gb"] == 8.0)
    assert day.body["candidates"][0]["leases"] == 1
    (held,) = day.server.get("/api/leases").json()["leases"]
    assert held["gpus"] == []  # what was promised is in use now

    path = f"{day.server.url}/api/leases/{made.json()['lease']}"
    assert requests.delete(path, timeout=60).status_code == 200
    host.holds()
    host.uses(2.0)
    wait_until(lambda: day.asked(QWEN, cold="true") == cold)
    (one,) = day.body["candidates"]
    assert (one["needs_gb"], one["needs_from"], one["load_from"]) == (14.0, "learned", "learned")
    assert 0 < one["load_s"] < 30

    other.stores((QWEN, sha(QWEN), 12 * GIB))
    other.holds(loaded("phi3:mini", gb=22))
    other.uses(23.0)  # a model that is not known to be on its disk: it is asked again what there is
    wait_until(
        lambda: (
            day.asked(QWEN, cold="true").get("other") == "cold"
            and day.body["candidates"][1]["fits"] == "after_eviction"
        )
    )
    evicting = day.body["candidates"][1]
    assert (evicting["name"], evicting["evicts"]) == ("other", ["phi3:mini"])
    assert (evicting["free_vram_gb"], evicting["reclaimable_vram_gb"]) == (1.0, 22.0)
