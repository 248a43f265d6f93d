"""What hosts send, read as what it means; and whatever else they send, refused with a reason."""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest

from machines_server.core.sample import (
    GpuSample,
    GpuUnreadable,
    HostSample,
    LoadedModel,
    StoredModel,
)
from machines_server.errors import BadAnswerError
from machines_server.poll.good_answer import MAX_GPUS, MAX_TEXT
from machines_server.poll.parse import (
    MAX_MODELS,
    parse_ollama,
    parse_sidecar,
    parse_tags,
)
from machines_server.poll.transfer import MAX_BODY_BYTES
from tests.fakes import FIXTURES, GIB, gpu_body, ollama_body, sidecar_body, tags_body

QWEN_DIGEST = "801dcad02f38c48984c325de964ab7c9213d4c51f101cd2f6aeacff576868987"
PHI_DIGEST = "f4a92fb5a4addcfc2a82d033dec357b0a6ea4f687d9bf492024355f70713ca07"

PS: dict[str, list[tuple[LoadedModel, str]]] = {
    "idle": [],
    "localai_idle_null": [],
    "current_gpu": [
        (
            LoadedModel(
                "qwen3:8b", QWEN_DIGEST, 6591830016, 6591830016, 4096, expires_at="2026-11-23T16:48:22Z"
            ),
            "100% GPU",
        )
    ],
    "keep_alive_forever_and_split": [
        (
            LoadedModel(
                "hf.co/bartowski/X-70B-GGUF:Q4_K_M",
                "55dac4b0b4be82f0219616b369b848675116ea7edd6c53390d9d1e341f99ff7e",
                44000000000,
                21500000000,
                32768,
                expires_at="2026-11-23T18:48:22Z",
            ),
            "51%/49% CPU/GPU",
        ),
        (
            LoadedModel(
                "nomic-embed-text:latest",
                "531e67a59846756e7b8c8ba5b7e33ae8991351b0c656f95171409fbda8115de8",
                593000000,
                593000000,
                8192,
                expires_at=None,
            ),
            "100% GPU",
        ),
    ],
    "cpu_only": [
        (
            LoadedModel("phi3:mini", PHI_DIGEST, 5600000000, 0, 4096, expires_at="2026-11-23T16:50:01Z"),
            "100% CPU",
        )
    ],
    "old_0_1_38_no_size_vram": [
        (
            LoadedModel("phi3:mini", PHI_DIGEST, 5600000000, 0, None, expires_at="2024-05-14T18:33:07Z"),
            "100% CPU",
        )
    ],
    "busy_expired_in_the_past": [
        (
            LoadedModel(
                "llama3.1:70b",
                "eab29de84c779f204f73ffb0207e3c9a1396d805ff0218efd6e70fe0b15a845c",
                42520412561,
                42520412561,
                8192,
                expires_at="2026-11-23T16:00:00Z",
            ),
            "100% GPU",
        )
    ],
    "alias_same_digest": [
        (
            LoadedModel(
                "my-assistant:latest",
                QWEN_DIGEST,
                6591830016,
                6591830016,
                4096,
                expires_at="2026-11-23T18:48:22Z",
            ),
            "100% GPU",
        )
    ],
    "empty_digest_null_families": [
        (LoadedModel("m:latest", None, 1, 1, None, expires_at="2026-11-23T18:48:22Z"), "100% GPU")
    ],
    "localai_loaded": [
        (
            LoadedModel(
                "gpt-4",
                "1b1ae706971632ada5f6db3654eda45148f24fac0f7abc55c19565494a5361da",
                expires_at="2026-11-24T17:00:00Z",
            ),
            "unknown",
        )
    ],
    "lemonade": [(LoadedModel("Qwen3-0.6B-GGUF", expires_at="2099-01-01T00:00:00Z"), "unknown")],
    "koboldcpp": [
        (
            LoadedModel(
                "koboldcpp/tiefighter:latest",
                "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a",
                394998579,
                394998579,
                expires_at="2055-06-04T21:38:31Z",
            ),
            "100% GPU",
        )
    ],
    "docker_model_runner_zero_time": [
        (
            LoadedModel(
                "ai/smollm2:latest", "043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89"
            ),
            "unknown",
        )
    ],
}


@pytest.mark.parametrize("path", sorted((FIXTURES / "ollama_ps").glob("*.json")), ids=lambda path: path.stem)
def test_every_form_of_api_ps_means_what_it_means(path: Any) -> None:
    found = parse_ollama(path.read_bytes())
    assert [(model, model.processor) for model in found] == PS[path.stem]


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


# The sidecar's answer


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


# Ollama's answer


def one_model(**changes: Any) -> LoadedModel:
    (model,) = parse_ollama(ollama_body("phi3:mini", **changes))
    return model


def test_a_model_needs_nothing_but_a_name() -> None:
    assert parse_ollama(b'{"models": [{"name": "m"}]}') == (LoadedModel("m"),)
    assert parse_ollama(b'{"models": [{"model": "m"}]}') == (LoadedModel("m"),)
    nothing = dict.fromkeys(("name", "digest", "size", "size_vram", "context_length", "expires_at"))
    assert parse_ollama(json.dumps({"models": [nothing | {"model": "m"}]}).encode()) == (LoadedModel("m"),)


def test_model_is_taken_before_name_and_an_empty_one_is_passed_over() -> None:
    assert one_model(model="a", name="b").model == "a"
    assert one_model(model="", name="b").model == "b"
    assert one_model(model=None, name="b").model == "b"


def test_models_come_sorted_whatever_the_order_and_each_only_once() -> None:
    found = parse_ollama(ollama_body("zeta:7b", "Alpha", "alpha:latest", "beta", "library/zeta:7b"))
    assert [model.model for model in found] == ["Alpha", "beta", "zeta:7b"]


def test_a_size_of_zero_is_unknown_and_a_size_without_vram_is_all_on_the_cpu() -> None:
    assert (one_model(size=0).size_bytes, one_model(size=0).processor) == (None, "unknown")
    assert (one_model(size_vram=None).size_vram_bytes, one_model(size_vram=None).processor) == (0, "100% CPU")
    more_than_all = one_model(size=1, size_vram=2)
    assert (more_than_all.size_vram_bytes, more_than_all.processor) == (2, "unknown")


@pytest.mark.parametrize("digest", ["", None, "0" * 64, "sha256:" + "0" * 64, "sha256:"])
def test_a_digest_that_says_nothing_is_unknown(digest: str | None) -> None:
    assert one_model(digest=digest).digest is None


def test_a_digest_is_the_same_with_and_without_its_algorithm() -> None:
    assert one_model(digest="sha256:ab12").digest == one_model(digest="ab12").digest == "ab12"


@pytest.mark.parametrize(
    ("expires_at", "utc"),
    [
        *(
            (f"2026-11-23T18:48:22{fraction}Z", "2026-11-23T18:48:22Z")
            for fraction in ["", *("." + "123456789"[:digits] for digits in range(1, 10))]
        ),
        ("2026-11-23T18:48:22.999999999Z", "2026-11-23T18:48:22Z"),
        ("2026-11-23T18:48:22.123456789+02:00", "2026-11-23T16:48:22Z"),
        ("2026-11-23T18:48:22-07:00", "2026-11-24T01:48:22Z"),
        ("2026-11-23T18:48:22+05:30", "2026-11-23T13:18:22Z"),
        ("2026-11-23T18:48:22+00:00", "2026-11-23T18:48:22Z"),
        ("2026-02-28T23:30:00-01:00", "2026-03-01T00:30:00Z"),
        ("2026-11-23T18:48:22", "2026-11-23T18:48:22Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00Z"),
        ("2199-12-31T23:59:59Z", "2199-12-31T23:59:59Z"),
        # never
        ("2318-12-04T10:11:12.123456789Z", None),
        ("2318-12-04T10:11:12.123456789+02:00", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+12:00", None),
        ("", None),
        (None, None),
    ],
)
def test_an_expiry_is_a_moment_in_utc_or_never(expires_at: str | None, utc: str | None) -> None:
    assert one_model(expires_at=expires_at).expires_at == utc


def test_an_expiry_without_a_zone_does_not_depend_on_where_this_server_stands() -> None:
    before = os.environ.get("TZ")
    try:
        os.environ["TZ"] = "Asia/Tokyo"
        time.tzset()
        assert one_model(expires_at="2026-11-23T18:48:22").expires_at == "2026-11-23T18:48:22Z"
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


@pytest.mark.parametrize(
    "expires_at",
    [
        *("soon", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-23T25:00:00Z", "-1"),
        *("2026-11-23T18:48:22+99:00", "10000-01-01T00:00:00Z", "18:48:22Z", " ", "9" * 500),
    ],
)
def test_an_expiry_that_is_no_time_is_refused(expires_at: str) -> None:
    reason = refused(parse_ollama, ollama_body("m", expires_at=expires_at))
    assert reason.startswith("models[0].expires_at: ")
    assert reason.endswith(" is not an RFC 3339 time")


def test_a_name_is_text_and_not_markup() -> None:
    assert one_model(model="<script>alert(1)</script>").model == "<script>alert(1)</script>"
    assert one_model(model="模型 é '\"&").model == "模型 é '\"&"
    assert one_model(model="x" * MAX_TEXT).model == "x" * MAX_TEXT


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": None, "name": None}, "models[0].name: None is not a text"),
        ({"model": 7}, "models[0].model: 7 is not a text"),
        ({"model": ["m"]}, "models[0].model: a list is not a text"),
        ({"model": {"a": 1}}, "models[0].model: an object is not a text"),
        ({"model": "x" * 2**20}, "models[0].model: longer than 512 characters"),
        ({"model": "a\nb"}, "has control characters"),
        ({"model": "a\0b"}, "has control characters"),
        ({"model": "a\x1b[2Jb"}, "has control characters"),
        ({"model": "a\u202eb"}, "has control characters"),
        ({"model": "a\u2028b"}, "has control characters"),
        ({"digest": 7}, "models[0].digest"),
        ({"digest": "a\tb"}, "models[0].digest"),
        ({"size": "4"}, "models[0].size: '4' is not a whole number"),
        ({"size": 4.5}, "models[0].size: 4.5 is not a whole number"),
        ({"size": True}, "models[0].size: True is not a whole number"),
        ({"size": -1}, "models[0].size: -1 is out of range"),
        ({"size": 2**63}, "models[0].size"),
        ({"size_vram": -1}, "models[0].size_vram: -1 is out of range"),
        ({"size_vram": False}, "models[0].size_vram"),
        ({"context_length": -1}, "models[0].context_length"),
        ({"context_length": "4096"}, "models[0].context_length"),
        ({"expires_at": 1795453200}, "models[0].expires_at"),
        ({"expires_at": {"seconds": 1}}, "models[0].expires_at"),
    ],
)
def test_a_model_that_says_what_cannot_be_is_refused_with_the_place(
    changes: dict[str, Any], words: str
) -> None:
    assert words in refused(parse_ollama, ollama_body("phi3:mini", **changes))


@pytest.mark.parametrize("models", [{}, "m", 1, True, [None], ["m"], [["m"]], [{"name": "m"}, 1]])
def test_models_that_are_no_list_of_objects_are_refused(models: Any) -> None:
    reason = refused(parse_ollama, json.dumps({"models": models}).encode())
    assert reason == "models: not a list of objects"


def test_an_object_without_models_is_probably_no_ollama() -> None:
    assert refused(parse_ollama, b"{}") == "models: missing; is this an Ollama?"
    assert refused(parse_ollama, b'{"error": "not found"}') == "models: missing; is this an Ollama?"


def test_more_models_than_any_host_can_hold_are_refused() -> None:
    names = [f"m{number}" for number in range(MAX_MODELS + 1)]
    assert "1001 entries" in refused(parse_ollama, ollama_body(*names))
    assert len(parse_ollama(ollama_body(*names[:-1]))) == MAX_MODELS


# Whatever it is


def refused(parse: Callable[[bytes], object], body: bytes) -> str:
    """Why the body is refused; a reason is one short line."""
    with pytest.raises(BadAnswerError) as caught:
        parse(body)
    reason = str(caught.value)
    assert 0 < len(reason) < 200
    assert reason.isprintable()
    return reason


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


def test_what_is_on_disk_has_a_name_a_digest_and_a_size() -> None:
    body = tags_body(("phi3:mini", "sha256:d2", 2), ("llama3.1:70b", "d1", 40), ("bare", "", 0))
    assert parse_tags(body) == (
        StoredModel("bare"),
        StoredModel("llama3.1:70b", "d1", 40),
        StoredModel("phi3:mini", "d2", 2),
    )
    assert parse_tags(b'{"models": null}') == ()


def test_a_model_of_a_cloud_is_on_nobodys_disk() -> None:
    cloud = {"name": "gpt-oss:120b-cloud", "size": 384, "remote_host": "https://ollama.com:443"}
    assert parse_tags(json.dumps({"models": [cloud, {"name": "m:latest"}]}).encode()) == (
        StoredModel("m:latest"),
    )
