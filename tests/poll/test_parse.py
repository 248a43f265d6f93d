"""What a sidecar sends, read as what it means; and what no host may send, refused with a reason."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest

from machines_server.core.sample import (
    GpuSample,
    GpuUnreadable,
    HostSample,
)
from machines_server.errors import BadAnswerError
from machines_server.poll.good_answer import MAX_GPUS, MAX_TEXT
from machines_server.poll.parse import (
    parse_ollama,
    parse_sidecar,
    parse_tags,
)
from machines_server.poll.transfer import MAX_BODY_BYTES
from tests.fakes import FIXTURES, GIB, gpu_body, ollama_body, sidecar_body
from tests.poll.refusals import refused


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


@pytest.mark.parametrize("missing", ["vram_total_bytes", "vram_used_bytes", "vram_free_bytes"])
def test_a_gpu_without_a_memory_reading_counts_as_unreadable(missing: str) -> None:
    sample = parse_sidecar(sidecar_body(gpu_body(3, used_gb=1) | {missing: None}, gpu_body(4, used_gb=1)))
    assert [gpu.index for gpu in sample.gpu] == [4]
    (unreadable,) = sample.gpu_unreadable
    assert (unreadable.index, unreadable.uuid) == (3, "GPU-3")
    assert unreadable.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"version": True}, "version True"),
        ({"version": 1.0}, "version 1.0"),
        ({"version": "1"}, "version '1'"),
        ({"version": {}}, "version an object"),
        ({"cpu_percent": True}, "cpu_percent: True is not a number"),
        ({"cpu_percent": "12"}, "cpu_percent: '12' is not a number"),
        ({"cpu_percent": [12]}, "cpu_percent: a list is not a number"),
        ({"cpu_percent": -0.1}, "cpu_percent: -0.1 is out of range"),
        ({"cpu_percent": 100.1}, "cpu_percent: 100.1 is out of range"),
        ({"uptime_s": -1}, "uptime_s: -1 is out of range"),
        ({"uptime_s": 1e308}, "uptime_s: 1e+308 is out of range"),
        ({"load_avg": [1, 2]}, "load_avg"),
        ({"load_avg": {"1m": 1}}, "load_avg"),
        ({"load_avg": [1, 2, "3"]}, "load_avg: '3' is not a number"),
        ({"load_avg": [1, 2, False]}, "load_avg: False is not a number"),
        ({"load_avg": [-1, 2, 3]}, "load_avg: -1 is out of range"),
        ({"ram_used_bytes": -1}, "ram_used_bytes: -1 is out of range"),
        ({"ram_used_bytes": 1.5}, "ram_used_bytes: 1.5 is not a whole number"),
        ({"ram_used_bytes": True}, "ram_used_bytes: True is not a whole number"),
        ({"ram_total_bytes": 2**63}, "ram_total_bytes"),
        ({"ram_total_bytes": 2**64}, "ram_total_bytes"),
        ({"ram_used_bytes": 129 * GIB}, "ram_used_bytes: more than ram_total_bytes"),
        ({"disk_used_bytes": 8001 * GIB}, "disk_used_bytes: more than disk_total_bytes"),
        ({"gpu": None}, "gpu: not a list of objects"),
        ({"gpu": {}}, "gpu: not a list of objects"),
        ({"gpu": "GPU"}, "gpu: not a list of objects"),
        ({"gpu": [1]}, "gpu: not a list of objects"),
        ({"gpu": [{}]}, "gpu[0].index: missing"),
        (
            {"gpu": [gpu_body(0, used_gb=1), gpu_body(1, used_gb=25, vram_free_bytes=0)]},
            "gpu[1].vram_used_bytes: more than",
        ),
        ({"gpu": [gpu_body(0, used_gb=1, vram_free_bytes=25 * GIB)]}, "gpu[0].vram_free_bytes: more than"),
        ({"gpu": [gpu_body(0, used_gb=1, vram_used_bytes=-1)]}, "gpu[0].vram_used_bytes: -1 is out of range"),
        ({"gpu": [gpu_body(-1, used_gb=1)]}, "gpu[0].index"),
        ({"gpu": [gpu_body(0, used_gb=1) | {"index": 0.0}]}, "gpu[0].index"),
        ({"gpu": [gpu_body(2**40, used_gb=1)]}, "gpu[0].index"),
        ({"gpu": [gpu_body(0, used_gb=1, uuid=None)]}, "gpu[0].uuid"),
        ({"gpu": [gpu_body(0, used_gb=1, uuid="")]}, "gpu[0].uuid"),
        ({"gpu": [gpu_body(0, used_gb=1, uuid=7)]}, "gpu[0].uuid"),
        ({"gpu": [gpu_body(0, used_gb=1, uuid="a\nb")]}, "gpu[0].uuid: 'a\\nb' has control characters"),
        ({"gpu": [gpu_body(0, used_gb=1, model="\x1b[31mred")]}, "gpu[0].model"),
        ({"gpu": [gpu_body(0, used_gb=1, memory_kind=None)]}, "gpu[0].memory_kind"),
        ({"gpu": [gpu_body(0, used_gb=1, utilisation=101)]}, "gpu[0].utilisation: 101 is out of range"),
        ({"gpu": [gpu_body(0, used_gb=1, utilisation="47")]}, "gpu[0].utilisation"),
        ({"gpu": [gpu_body(0, used_gb=1, power_w=[])]}, "gpu[0].power_w"),
        ({"gpu": [gpu_body(0, used_gb=1), gpu_body(1, used_gb=1, uuid="GPU-0")]}, "same uuid"),
        ({"gpu_unreadable": [{"uuid": "GPU-0", "reason": "lost"}] * 2}, "same uuid"),
        ({"gpu_unreadable": [{}]}, "gpu_unreadable[0].reason"),
        ({"gpu_unreadable": [{"reason": "x" * (MAX_TEXT + 1)}]}, "gpu_unreadable[0].reason: longer than"),
        ({"gpu_unreadable": ["lost"]}, "gpu_unreadable: not a list of objects"),
    ],
)
def test_a_sidecar_that_says_what_cannot_be_is_refused_with_the_place(
    changes: dict[str, Any], words: str
) -> None:
    assert words in refused(parse_sidecar, sidecar_body(**changes))


def test_ten_thousand_gpus_are_refused() -> None:
    gpus = [gpu_body(number, used_gb=1) for number in range(10_000)]
    assert refused(parse_sidecar, sidecar_body(*gpus)) == f"gpu: 10000 entries, more than {MAX_GPUS}"
    assert len(parse_sidecar(sidecar_body(*gpus[:MAX_GPUS])).gpu) == MAX_GPUS


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


def put(value: str) -> Iterator[bytes]:
    """Bodies that hold one piece of JSON wherever something is looked at."""
    yield f'{{"version": {value}}}'.encode()
    yield f'{{"models": {value}}}'.encode()
    for key in ("cpu_percent", "load_avg", "ram_used_bytes", "gpu", "gpu_unreadable"):
        yield f'{{"version": 1, "{key}": {value}}}'.encode()
    yield f'{{"version": 1, "load_avg": [{value}, 1, 1]}}'.encode()
    yield f'{{"version": 1, "gpu": [{value}]}}'.encode()
    for key in ("index", "uuid", "vram_total_bytes"):
        yield f'{{"version": 1, "gpu": [{{"index": 0, "uuid": "u", "{key}": {value}}}]}}'.encode()
    for key in ("name", "model", "digest", "size", "size_vram", "expires_at", "context_length"):
        yield f'{{"models": [{{"name": "m", "{key}": {value}}}]}}'.encode()


@pytest.mark.parametrize("parse", [parse_sidecar, parse_ollama, parse_tags])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no valid JSON"),
        (b" ", "no valid JSON"),
        (b"\0", "no valid JSON"),
        (b"\xff\xfe{}", "no valid JSON"),
        (b'{"version": 1, "hostname": "\xff"}', "no valid JSON"),
        (b'\xef\xbb\xbf{"version": 1, "models": []}', "no valid JSON"),
        ('{"version": 1, "models": []}'.encode("utf-16"), "no valid JSON"),
        (b'{"version": 1, "models": [', "no valid JSON"),
        (b'{"version": 1, "models": []}{}', "no valid JSON"),
        (b'{"version": 1, "models": [],}', "no valid JSON"),
        (b"{'version': 1, 'models': []}", "no valid JSON"),
        (b"data: {}\n\n", "no valid JSON"),
        (b"# HELP cpu_percent\ncpu_percent 1\n", "no valid JSON"),
        (b"<!DOCTYPE html><html><body>It works!</body></html>", "HTML, not JSON"),
        (b"\n  <html>", "HTML, not JSON"),
        (b"null", "not an object"),
        (b"true", "not an object"),
        (b"[]", "not an object"),
        (b'"version"', "not an object"),
        (b"1", "not an object"),
        (gzip.compress(b'{"version": 1, "models": []}'), "compressed"),
        (nested(100_000).encode(), "no valid JSON"),
        (nested(100_000, '{"a":', "}").encode(), "no valid JSON"),
        (b"[" * MAX_BODY_BYTES, "no valid JSON"),
        (b'"' + b"\\" * (MAX_BODY_BYTES - 1), "no valid JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_not_a_json_object_is_refused(
    parse: Callable[[bytes], object], body: bytes, words: str
) -> None:
    assert words in refused(parse, body)


@pytest.mark.parametrize(
    "value",
    [
        *("NaN", "-NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-" + "9" * 5000),
        *('"\\ud800"', '"\\udc00\\ud800"', '"\\q"', '"\n"', "0x10", "01", ".5", "1.", "+1", "undefined"),
        *(nested(100_000), nested(1024), nested(1023), nested(1000), nested(990)),
        *(nested(1000, '{"a":[', "]}"), nested(500, '{"a":[', "]}")),
    ],
    ids=lambda value: value[:12],
)
def test_numbers_texts_and_depths_that_json_does_not_have_never_get_through(value: str) -> None:
    for body in put(value):
        with pytest.raises(BadAnswerError):
            parse_sidecar(body)
        with pytest.raises(BadAnswerError):
            parse_ollama(body)


def test_of_two_equal_keys_the_last_counts() -> None:
    assert parse_sidecar(b'{"version": 2, "version": 1, "gpu": []}') == HostSample()
    assert parse_ollama(b'{"models": 1, "models": [], "models": null}') == ()


def test_a_huge_value_is_not_repeated_in_the_reason() -> None:
    refused(parse_sidecar, sidecar_body(cpu_percent="x" * 2**20))
    refused(parse_sidecar, sidecar_body(version=["x" * 2**20]))
    refused(parse_ollama, ollama_body("m", size={"x" * 2**20: 1}))
