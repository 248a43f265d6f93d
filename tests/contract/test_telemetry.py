"""Samples in the units of the API."""

import json
from dataclasses import replace
from typing import Any

from machines_server.contract.encoding import encode
from machines_server.contract.telemetry import Gpu, Telemetry, telemetry
from machines_server.core.sample import (
    GIB,
    LOADS,
    GpuSample,
    GpuUnreadable,
    HostSample,
    metrics_of,
    public_name,
)

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


def shown(sample: HostSample | None) -> dict[str, Any]:
    """A sample as a client reads it."""
    found: dict[str, Any] = json.loads(encode(telemetry(sample)))
    return found


def test_a_host_without_gpu_has_no_gpu_key_and_sizes_in_gib() -> None:
    assert shown(HOST) == {
        "cpu_percent": 12.4,
        "load_avg": [1.1, 0.9, 0.7],
        "ram_used_gb": 38.0,
        "ram_total_gb": 128.0,
        "ram_available_gb": 90.0,
        "disk_used_gb": 10.0,
        "disk_total_gb": 8000.0,
        "disk_available_gb": 7990.0,
        "uptime_s": 12345.0,
    }


def test_a_gpu_has_its_identity_and_its_numbers_and_zero_is_not_missing() -> None:
    assert shown(replace(HOST, gpu=(GPU,)))["gpu"] == [
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
    body = shown(replace(HOST, gpu=(GPU,), gpu_unreadable=(GpuUnreadable(1, None, "GPU is lost"),)))
    assert [gpu["index"] for gpu in body["gpu"]] == [0]
    assert body["gpu_unreadable"] == [{"index": 1, "uuid": None, "reason": "GPU is lost"}]
    alone = shown(replace(HOST, gpu_unreadable=(GpuUnreadable(None, None, "driver hangs"),)))
    assert alone["gpu"] == []


def test_the_unknown_is_null_and_never_zero() -> None:
    body = shown(HostSample())
    assert body.pop("load_avg") == [None, None, None]
    assert set(body.values()) == {None}
    assert shown(HostSample(cpu_percent=0))["cpu_percent"] == 0


def test_before_the_first_sample_there_is_nothing() -> None:
    assert shown(None) == {}


def test_every_metric_of_the_catalogue_is_shown() -> None:
    host = [public_name(one.name) for one in metrics_of(HostSample) if one.name not in LOADS]
    gpu = [public_name(one.name) for one in metrics_of(GpuSample)]
    assert set(host) - {*Telemetry.__struct_fields__} == set(), "add them to Telemetry"
    assert set(gpu) - {*Gpu.__struct_fields__} == set(), "add them to Gpu"
    values: dict[str, Any] = {one.name: 2**40 for one in metrics_of(HostSample)}
    numbers = shown(HostSample(**values, gpu=(GPU,)))
    assert set(host) - {*numbers} == set(), "set them in telemetry()"
    for name in host:
        assert numbers[name] == (1024.0 if name.endswith("_gb") else 2**40), name
    assert numbers["load_avg"] == [2**40] * 3
