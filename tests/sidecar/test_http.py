"""GET /metrics and GET /health, as clients see them."""

import http.client
import json
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from host_facts.facts import Disk, Facts
from host_facts.host import Host, HostReading
from sidecar import __version__
from sidecar.app import App, Request
from sidecar.exposition import GPU_FAMILIES, HOST_FAMILIES
from sidecar.hosts import HostRule
from sidecar.payload import Gpu
from sidecar.sampler import Sampler
from tests.sidecar.running import Scenario, Sidecar, card, wait_until
from tests.sidecar.serving import NoGpus
from tests.tools import tool

Start = Callable[..., Sidecar]
FIXTURE = Path(__file__).parents[1] / "fixtures" / "sidecar_metrics.json"
LOST = 15


@pytest.fixture
def gpu_sidecar(start: Start, scenario: Scenario) -> Sidecar:
    """A sidecar on a host with two cards that can be read and one that is lost."""
    scenario.show(card(0, "GPU-a"), card(1, 'GPU-"b"\\', gpu=None, power=0), card(2, "GPU-c"))
    sidecar = start()
    sidecar.sample()
    scenario.change(**{"2.error": LOST})
    sidecar.sample_when(lambda sample: bool(sample["gpu_unreadable"]), "a card is lost")
    return sidecar


def shape(value: Any) -> Any:
    """The keys and types of `value`, in order."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def test_the_json_has_the_keys_and_types_of_the_contract(gpu_sidecar: Sidecar) -> None:
    answer = gpu_sidecar.get(Accept="application/json")
    assert dict(shape(answer.json)) == dict(shape(json.loads(FIXTURE.read_text(encoding="utf-8"))))
    assert answer.json["version"] == 1
    assert answer.headers["Content-Type"] == "application/json"
    assert "Server" not in answer.headers


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/metrics", "application/json"),
        ("/metrics", "Application/JSON, text/plain;q=0.5"),
        ("/metrics?format=json", "*/*"),
        ("/metrics?a=b&format=json", "text/plain"),
    ],
)
def test_json_is_given_to_who_asks_for_it(path: str, accept: str, sidecar: Sidecar) -> None:
    sidecar.sample()
    assert sidecar.get(path, Accept=accept).json["gpu"] == []


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain; version=0.0.4"),
        ("", "text/plain; version=0.0.4"),
        ("text/html", "text/plain; version=0.0.4"),
        ("text/plain; version=what", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_anyone_else_is_given_prometheus_text(accept: str, content_type: str, sidecar: Sidecar) -> None:
    sidecar.sample()
    answer = sidecar.get(Accept=accept)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(content_type)
    assert b"machines_sidecar_ram_total_bytes" in answer.body


def promtool(text: bytes) -> str:
    """What promtool says of `text`; nothing when all is well."""
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    return (checked.stdout + checked.stderr).decode() + (f"status {checked.returncode}" * checked.returncode)


def test_promtool_finds_nothing_to_complain_of_without_gpus(sidecar: Sidecar) -> None:
    sidecar.sample()
    assert promtool(sidecar.get().body) == ""


def test_promtool_finds_nothing_to_complain_of_with_gpus(gpu_sidecar: Sidecar) -> None:
    assert promtool(gpu_sidecar.get().body) == ""


def test_each_reading_of_the_json_is_in_the_text() -> None:
    host = {key for _, key, *_ in HOST_FAMILIES} | {"load_avg"}
    gpu = {key for _, key, *_ in GPU_FAMILIES} | {"index", "uuid", "model", "memory_kind"}
    assert HostReading.__annotations__.keys() - host == set(), "add them to HOST_FAMILIES"
    assert Gpu.__annotations__.keys() - gpu == set(), "add them to GPU_FAMILIES"


def test_the_text_says_what_the_json_says_and_leaves_out_what_is_null(gpu_sidecar: Sidecar) -> None:
    lines = gpu_sidecar.get().body.decode().splitlines()
    assert 'machines_sidecar_gpu_readable{index="0",uuid="GPU-a"} 1.0' in lines
    assert 'machines_sidecar_gpu_readable{index="2",uuid="GPU-c"} 0.0' in lines
    labels = '{index="0",model="NVIDIA Stand-in",uuid="GPU-a"}'
    assert f"machines_sidecar_gpu_utilisation_ratio{labels} 0.47" in lines
    assert f"machines_sidecar_gpu_power_watts{labels} 212.5" in lines
    second = [line for line in lines if 'index="1"' in line]
    assert not any("utilisation" in line for line in second)
    assert any(
        line.startswith("machines_sidecar_gpu_power_watts") and line.endswith(" 0.0") for line in second
    )
    assert not any("GPU-c" in line and "readable" not in line for line in lines)


def test_health_says_ok(sidecar: Sidecar) -> None:
    answer = sidecar.get("/health")
    assert answer.status == 200
    assert answer.json == {"status": "ok", "service": "machines-sidecar", "version": __version__}


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/health/live", "/favicon.ico"])
def test_any_other_path_is_a_json_404(path: str, sidecar: Sidecar) -> None:
    answer = sidecar.get(path)
    assert (answer.status, answer.json["error"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_any_other_method_is_a_json_405(method: str, sidecar: Sidecar) -> None:
    for path in ("/metrics", "/health"):
        answer = sidecar.request(method, path)
        assert (answer.status, answer.json["error"]) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET"


def test_head_is_a_405_without_a_body(sidecar: Sidecar) -> None:
    answer = sidecar.request("HEAD", "/metrics")
    assert (answer.status, answer.body) == (405, b"")


def test_a_connection_is_kept_alive_over_all_kinds_of_answers(sidecar: Sidecar) -> None:
    sidecar.sample()
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=10)
    with closing(connection):
        connection.connect()
        first = connection.sock
        for path, status in (
            ("/metrics", 200),
            ("/metrics?format=json", 200),
            ("/no", 404),
            ("/health", 200),
        ):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            assert (response.status, len(body)) == (status, int(response.headers["Content-Length"]))
            assert connection.sock is first


def test_what_one_client_asks_never_changes_what_another_sees(start: Start) -> None:
    sidecar = start(SIDECAR_SAMPLE_INTERVAL_S="60")
    before = sidecar.sample()
    for _ in range(20):
        sidecar.get()
        assert sidecar.sample() == before


def test_the_window_is_the_time_between_two_samples(start: Start) -> None:
    sidecar = start(SIDECAR_SAMPLE_INTERVAL_S="0.5")
    first = sidecar.sample()
    assert first["cpu_percent"] is not None
    later = sidecar.sample_when(lambda sample: sample["sampled_at"] != first["sampled_at"], "the next sample")
    assert later["window_s"] >= 0.4


class Hanging(Facts):
    """A host whose disk hangs while `free` is not set."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def disk(self, place: str) -> Disk:
        self.free.wait()
        return super().disk(place)


def ask(app: App) -> tuple[int, Any]:
    """The status and JSON of GET /metrics."""
    answer = app.answer(Request("GET", "/metrics", {"host": "127.0.0.1", "accept": "application/json"}))
    return answer.status, json.loads(answer.body)


def test_a_sampler_that_hangs_is_said_so_and_shows_no_old_values() -> None:
    facts, now = Hanging(), [100.0]
    sampler = Sampler(Host(facts), NoGpus(), 0.1, clock=lambda: now[0])
    app = App(sampler, HostRule(()))
    sampler.start()
    try:
        assert ask(app)[1]["error"] == "starting"
        now[0] += 5.1
        assert ask(app)[1]["error"] == "sampler_stalled"
        facts.free.set()
        taken = wait_until(lambda: sampler.latest, "the first sample")
        assert ask(app)[0] == 200
        facts.free.clear()
        now[0] = taken.at + 5.1
        wait_until(lambda: ask(app)[0] == 503, "the sampler hangs")
        assert ask(app)[1]["error"] == "sampler_stalled"
        facts.free.set()
        wait_until(lambda: ask(app)[0] == 200, "the sampler goes on")
    finally:
        facts.free.set()
        sampler.stop()
