"""How a sidecar's answers about its host are read; impossible values are unknown."""

import json
from dataclasses import fields
from typing import Any

import pytest

from machines_server.core.sample import (
    GpuSample,
    GpuUnreadable,
    HostSample,
)
from tests.bodies import FIXTURES, GIB, gpu_body, sidecar_body
from tests.runtimes.reading import parse_sidecar, read_sidecar
from tests.runtimes.refusals import refused


def test_the_answer_of_our_own_sidecar_is_read_in_full() -> None:
    assert parse_sidecar((FIXTURES / "sidecar_metrics.json").read_bytes()) == HostSample(
        cpu_percent=12.4,
        load_1m=1.12,
        load_5m=0.94,
        load_15m=0.71,
        ram_used_bytes=41875931136,
        ram_total_bytes=134968922112,
        ram_available_bytes=91268055040,
        disk_used_bytes=1203495124992,
        disk_total_bytes=1967317549056,
        disk_available_bytes=665388253184,
        uptime_s=1234567,
        gpu=(
            GpuSample(
                index=0,
                uuid="GPU-8f6a2c1e-3b5d-4e7f-9a0b-1c2d3e4f5a6b",
                model="NVIDIA GeForce RTX 4090",
                memory_kind="dedicated",
                vram_total_bytes=25757220864,
                vram_used_bytes=19327352832,
                vram_free_bytes=5958008832,
                utilisation=47,
                temperature_c=61,
                power_w=212.5,
            ),
            GpuSample(
                index=1,
                uuid="GPU-0d1e2f3a-4b5c-6d7e-8f90-a1b2c3d4e5f6",
                model="NVIDIA GeForce RTX 3060",
                memory_kind="dedicated",
                vram_total_bytes=12884901888,
                vram_used_bytes=0,
                vram_free_bytes=12574523392,
                utilisation=0,
                temperature_c=34,
                power_w=12.87,
            ),
        ),
        gpu_unreadable=(GpuUnreadable(2, "GPU-77777777-4b5c-6d7e-8f90-a1b2c3d4e5f6", "NVML: GPU is lost"),),
        hostname="workstation",
    )


def test_version_and_gpu_are_required_and_all_else_is_unknown() -> None:
    assert parse_sidecar(b'{"version": 1, "gpu": []}') == HostSample()
    assert "gpu: missing" in refused(parse_sidecar, b'{"version": 1}')
    nothing: dict[str, Any] = {one.name: None for one in fields(HostSample)} | {
        "gpu": [],
        "gpu_unreadable": [],
    }
    nothing = {key: value for key, value in nothing.items() if not key.startswith("load_")}
    assert parse_sidecar(json.dumps(nothing | {"version": 1, "load_avg": None}).encode()) == HostSample()


def test_unknown_keys_are_no_fault_and_white_space_neither() -> None:
    body = sidecar_body(gpu_body(0, used_gb=1, colour="red"), fan=[{"rpm": 1e3}], note="ü")
    assert parse_sidecar(b" \r\n\t" + body + b"\n") == parse_sidecar(sidecar_body(gpu_body(0, used_gb=1)))


def test_null_in_a_reading_is_unknown_and_zero_is_zero() -> None:
    sample = parse_sidecar(
        sidecar_body(
            gpu_body(0, used_gb=0, utilisation=0, temperature_c=None, power_w=0),
            cpu_percent=0,
            load_avg=[0, None, 0.0],
            ram_used_bytes=None,
        )
    )
    assert (sample.cpu_percent, sample.ram_used_bytes) == (0, None)
    assert (sample.load_1m, sample.load_5m, sample.load_15m) == (0, None, 0)
    (gpu,) = sample.gpu
    assert (gpu.vram_used_bytes, gpu.utilisation, gpu.temperature_c, gpu.power_w) == (0, 0, None, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"version": True}, "version True"),
        ({"version": 1.0}, "version 1.0"),
        ({"version": "1"}, "version '1'"),
        ({"version": {}}, "version an object"),
        ({"gpu": None}, "gpu: not a list of objects"),
        ({"gpu": {}}, "gpu: not a list of objects"),
        ({"gpu": "GPU"}, "gpu: not a list of objects"),
        ({"gpu_unreadable": {}}, "gpu_unreadable: not a list of objects"),
    ],
)
def test_a_sidecar_that_says_no_such_thing_is_refused_with_the_place(
    changes: dict[str, Any], words: str
) -> None:
    assert words in refused(parse_sidecar, sidecar_body(**changes))


@pytest.mark.parametrize(
    ("changes", "unknown", "words"),
    [
        ({"ram_used_bytes": 129 * GIB}, "ram_used_bytes", "is more than ram_total_bytes"),
        ({"ram_available_bytes": 129 * GIB}, "ram_available_bytes", "is more than ram_total_bytes"),
        ({"disk_used_bytes": 8001 * GIB}, "disk_used_bytes", "is more than disk_total_bytes"),
        ({"disk_available_bytes": 8001 * GIB}, "disk_available_bytes", "is more than disk_total_bytes"),
        ({"cpu_percent": -0.1}, "cpu_percent", "-0.1 is out of range"),
        ({"cpu_percent": 100.1}, "cpu_percent", "100.1 is out of range"),
        ({"cpu_percent": 808334905}, "cpu_percent", "808334905 is out of range"),
        ({"cpu_percent": True}, "cpu_percent", "True is not a number"),
        ({"cpu_percent": "12"}, "cpu_percent", "'12' is not a number"),
        ({"cpu_percent": [12]}, "cpu_percent", "a list is not a number"),
        ({"uptime_s": -1}, "uptime_s", "-1 is out of range"),
        ({"uptime_s": 1e308}, "uptime_s", "1e+308 is out of range"),
        ({"load_avg": [-1, 0.9, 0.7]}, "load_1m", "-1 is out of range"),
        ({"load_avg": [1.1, 0.9, 2**40]}, "load_15m", "1099511627776 is out of range"),
        ({"load_avg": [1.1, "0.9", 0.7]}, "load_5m", "'0.9' is not a number"),
        ({"load_avg": [1.1, 0.9, False]}, "load_15m", "False is not a number"),
        ({"ram_used_bytes": -1}, "ram_used_bytes", "-1 is out of range"),
        ({"ram_used_bytes": 1.5}, "ram_used_bytes", "1.5 is not a whole number"),
        ({"ram_used_bytes": True}, "ram_used_bytes", "True is not a whole number"),
        ({"ram_total_bytes": 2**63}, "ram_total_bytes", "is out of range"),
        ({"ram_total_bytes": 2**64}, "ram_total_bytes", "is not a whole number"),
        ({"hostname": 7}, "hostname", "7 is not a non-blank string"),
        ({"hostname": "a\x1b]0;b"}, "hostname", "has control characters"),
        ({"hostname": "x" * 513}, "hostname", "longer than 512 characters"),
    ],
)
def test_a_reading_that_cannot_be_is_unknown_and_said_and_costs_no_other(
    changes: dict[str, Any], unknown: str, words: str
) -> None:
    (sample, odd), good = read_sidecar(sidecar_body(**changes)), parse_sidecar(sidecar_body())
    assert getattr(good, unknown) is not None
    setattr(good, unknown, None)
    assert sample == good
    assert odd.kinds == set(changes)
    assert words in str(odd)


@pytest.mark.parametrize("load", [[1, 2], {"1m": 1}, "1.1", 1.1])
def test_loads_that_are_not_three_are_unknown(load: Any) -> None:
    sample, odd = read_sidecar(sidecar_body(load_avg=load))
    assert (sample.load_1m, sample.load_5m, sample.load_15m, sample.cpu_percent) == (None, None, None, 12.4)
    assert odd.kinds == {"load_avg"}


def test_a_host_that_does_not_tell_its_name_is_not_odd() -> None:
    for name in ("", None):
        sample, odd = read_sidecar(sidecar_body(hostname=name))
        assert sample.hostname is None
        assert not odd


def test_memory_that_is_used_and_available_to_the_last_byte_is_no_contradiction() -> None:
    whole = {"ram_used_bytes": 8 * GIB, "ram_available_bytes": 8 * GIB, "ram_total_bytes": 8 * GIB}
    full = gpu_body(0, used_gb=24)
    sample = parse_sidecar(sidecar_body(full, gpu_body(1, used_gb=0), **whole))
    assert (sample.ram_used_bytes, sample.ram_available_bytes) == (8 * GIB, 8 * GIB)
    assert [gpu.vram_free_bytes for gpu in sample.gpu] == [0, 24 * GIB]
