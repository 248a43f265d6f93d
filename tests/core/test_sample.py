"""Samples in the form of the API, and what `ollama ps` would print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.machine import Endpoint
from machines_server.core.sample import (
    GIB,
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    Sample,
    State,
    metrics_of,
    public_name,
    public_value,
)
from tests.core.machines import OLLAMA, SIDECAR

GPU = GpuSample(0, "GPU-a", "24GB card", "dedicated", 24 * GIB, 18 * GIB, 6 * GIB, 0, 61, None)
HOST = HostSample(
    cpu_percent=12.4,
    load_1m=1.1,
    load_5m=0.9,
    load_15m=0.7,
    ram_used_bytes=38 * GIB,
    ram_total_bytes=128 * GIB,
    ram_available_bytes=90 * GIB,
    disk_used_bytes=10 * GIB,
    disk_total_bytes=8000 * GIB,
    disk_available_bytes=7990 * GIB,
    uptime_s=12345.0,
)
BYTES = st.integers(0, 2**63 - 1)


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
    return PollResult("one", endpoint, state, at, took_s)


def sample(*results: PollResult) -> Sample:
    return Sample("one", {one.endpoint.kind: one for one in results})


def test_a_sample_is_of_the_moment_when_the_sidecar_answered() -> None:
    ollama = result(OLLAMA, State.OK, 12.0, 0.1)
    assert sample(result(SIDECAR, State.OK, 10.0, 0.1), ollama).at == 10.0
    assert sample(result(SIDECAR, State.BUSY, 10.0, 0.1), ollama).at == 12.0
    assert sample(ollama).at == 12.0


def test_a_sample_is_as_slow_as_its_slowest_poll_and_up_if_any_endpoint_answered() -> None:
    sidecar = result(SIDECAR, State.OK, 10.0, 0.5)
    ollama = result(OLLAMA, State.BUSY, 12.0, 0.1)
    assert (sample(sidecar, ollama).poll_s, sample(sidecar, ollama).up) == (0.5, True)
    assert not sample(ollama).up
