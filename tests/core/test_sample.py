"""Samples in the form of the API, and what `ollama ps` would print."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.registry import Endpoint
from machines_server.core.sample import (
    GIB,
    GpuSample,
    GpuUnreadable,
    HostSample,
    LoadedModel,
    PollResult,
    Sample,
    State,
    metrics_of,
    public_name,
    public_value,
    telemetry,
)

GPU = GpuSample(0, "GPU-a", "24GB card", "dedicated", 24 * GIB, 18 * GIB, 6 * GIB, 0, 61, None)
HOST = HostSample(12.4, 1.1, 0.9, 0.7, 38 * GIB, 128 * GIB, 90 * GIB, 10 * GIB, 8000 * GIB, 12345.0)
BYTES = st.integers(0, 2**63 - 1)


def test_a_host_without_gpu_has_no_gpu_key_and_sizes_in_gib() -> None:
    assert telemetry(HOST) == {
        "cpu_percent": 12.4,
        "load_avg": [1.1, 0.9, 0.7],
        "ram_used_gb": 38.0,
        "ram_total_gb": 128.0,
        "ram_available_gb": 90.0,
        "disk_used_gb": 10.0,
        "disk_total_gb": 8000.0,
        "uptime_s": 12345.0,
    }


def test_a_gpu_has_its_identity_and_its_numbers_and_zero_is_not_missing() -> None:
    assert telemetry(replace(HOST, gpu=(GPU,)))["gpu"] == [
        {
            "index": 0,
            "uuid": "GPU-a",
            "model": "24GB card",
            "memory_kind": "dedicated",
            "vram_total_gb": 24.0,
            "vram_used_gb": 18.0,
            "vram_free_gb": 6.0,
            "utilisation": 0,
            "temperature_c": 61,
            "power_w": None,
        }
    ]


def test_a_gpu_that_could_not_be_read_stands_apart_and_has_no_numbers() -> None:
    body = telemetry(replace(HOST, gpu=(GPU,), gpu_unreadable=(GpuUnreadable(1, None, "GPU is lost"),)))
    assert [gpu["index"] for gpu in body["gpu"]] == [0]
    assert body["gpu_unreadable"] == [{"index": 1, "uuid": None, "reason": "GPU is lost"}]
    alone = telemetry(replace(HOST, gpu_unreadable=(GpuUnreadable(None, None, "driver hangs"),)))
    assert alone["gpu"] == []


def test_the_unknown_is_null_and_never_zero() -> None:
    body = telemetry(HostSample())
    assert body.pop("load_avg") == [None, None, None]
    assert set(body.values()) == {None}
    assert telemetry(HostSample(cpu_percent=0))["cpu_percent"] == 0


@pytest.mark.parametrize(
    ("size_bytes", "gib"),
    [
        (0, 0.0),
        (1, 0.0),
        (GIB, 1.0),
        (GIB + GIB // 2, 1.5),
        (40_909_570_048, 38.1),
        (5 * 10**6, 0.0),
        (6 * 10**6, 0.01),
        (None, None),
    ],
)
def test_bytes_become_gib_rounded_to_two_decimals(size_bytes: int | None, gib: float | None) -> None:
    assert public_value("ram_used_bytes", size_bytes) == gib


def test_only_bytes_are_converted() -> None:
    assert public_value("uptime_s", 123.456) == 123.456
    assert public_name("uptime_s") == "uptime_s"
    assert public_name("vram_free_bytes") == "vram_free_gb"


def test_every_metric_of_the_catalogue_has_a_unit_and_a_text_and_a_name_that_fits() -> None:
    for metric in (*metrics_of(HostSample), *metrics_of(GpuSample)):
        assert metric.metadata["about"]
        assert (metric.metadata["unit"] == "bytes") == metric.name.endswith("_bytes")
    assert [metric.name for metric in metrics_of(GpuSample)] == [
        *("vram_total_bytes", "vram_used_bytes", "vram_free_bytes"),
        *("utilisation", "temperature_c", "power_w"),
    ]


@pytest.mark.parametrize(
    ("size", "vram", "printed"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 52, "48%/52% CPU/GPU"),
        (1000, 875, "13%/87% CPU/GPU"),  # 12.5: Ollama rounds halves up
        (1000, 885, "12%/88% CPU/GPU"),
        (1000, 999, "0%/100% CPU/GPU"),
        (1000, 1, "100%/0% CPU/GPU"),
        (44_000_000_000, 21_500_000_000, "51%/49% CPU/GPU"),
        (100, 101, "unknown"),
        (None, 100, "unknown"),
        (None, None, "unknown"),
        (100, None, "unknown"),
    ],
)
def test_the_processor_is_said_as_ollama_ps_says_it(size: int | None, vram: int | None, printed: str) -> None:
    assert LoadedModel("m", size_bytes=size, size_vram_bytes=vram).processor == printed


@given(st.integers(1, 2**63 - 1), BYTES)
def test_the_two_shares_make_a_hundred_percent(size: int, vram: int) -> None:
    printed = LoadedModel("m", size_bytes=size, size_vram_bytes=vram).processor
    if printed.endswith(" CPU/GPU"):
        cpu, gpu = (int(share.rstrip("%")) for share in printed.removesuffix(" CPU/GPU").split("/"))
        assert cpu + gpu == 100
        assert cpu >= 0
        assert gpu >= 0


def result(endpoint: Endpoint, state: State, at: float, took_s: float) -> PollResult:
    return PollResult("one", endpoint, "http://h/", state, at, took_s)


def sample(*results: PollResult) -> Sample:
    return Sample("one", {one.endpoint: one for one in results})


def test_a_sample_is_of_the_moment_when_the_sidecar_answered() -> None:
    ollama = result(Endpoint.OLLAMA, State.OK, 12.0, 0.1)
    assert sample(result(Endpoint.SIDECAR, State.OK, 10.0, 0.1), ollama).at == 10.0
    assert sample(result(Endpoint.SIDECAR, State.BUSY, 10.0, 0.1), ollama).at == 12.0
    assert sample(ollama).at == 12.0


def test_a_sample_is_as_slow_as_its_slowest_poll_and_up_if_any_endpoint_answered() -> None:
    sidecar = result(Endpoint.SIDECAR, State.OK, 10.0, 0.5)
    ollama = result(Endpoint.OLLAMA, State.BUSY, 12.0, 0.1)
    assert (sample(sidecar, ollama).poll_s, sample(sidecar, ollama).up) == (0.5, True)
    assert not sample(ollama).up
