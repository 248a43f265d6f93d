"""Whatever a host sends is read or refused, with the same result in the fast path as in the strict one."""

import json
import string
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from machines_server.core.sample import GpuSample, HostSample, metrics_of
from machines_server.core.text import printable
from machines_server.errors import BadAnswerError
from machines_server.runtimes.sidecar import read_good_host, read_host
from tests.bodies import FIXTURES, gpu_body, ollama_body, sidecar_body
from tests.runtimes.reading import parse_ollama, parse_sidecar, parse_tags

T = TypeVar("T")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
MODEL_KEYS = ("name", "model", "digest", "size", "size_vram", "context_length", "expires_at", "details")
GPU_KEYS = tuple(gpu_body(0, used_gb=1))
MODELS = st.dictionaries(st.sampled_from(MODEL_KEYS), VALUES)
GPUS = st.dictionaries(st.sampled_from(GPU_KEYS), VALUES)
HOST_KEYS = tuple(json.loads(sidecar_body()))


def tried(parse: Callable[[bytes], T], body: bytes) -> T | None:
    """What is read, or None where it is refused in printable words."""
    try:
        return parse(body)
    except BadAnswerError as error:
        return None if str(error).isprintable() else pytest.fail(f"not printable: {error}")


def survives(body: bytes) -> None:
    """Whatever the body, it is read or refused; what is read holds nothing but what was allowed."""
    if (sample := tried(parse_sidecar, body)) is not None:
        numbers = [getattr(sample, one.name) for one in metrics_of(HostSample)]
        texts = [text for gpu in sample.gpu for text in (gpu.uuid, gpu.model or "", gpu.memory_kind)]
        texts += [text for gpu in sample.gpu_unreadable for text in (gpu.uuid or "", gpu.reason)]
        assert texts == [printable(text) for text in texts]
        assert len({gpu.index for gpu in sample.gpu}) == len({gpu.uuid for gpu in sample.gpu})
        for gpu in sample.gpu:
            assert gpu.vram_used_bytes + gpu.vram_free_bytes <= gpu.vram_total_bytes
            numbers += [getattr(gpu, one.name) for one in metrics_of(GpuSample)]
        assert all(number is None or 0 <= number < 2**63 for number in numbers)
    if (quick := read_good_host(body)) is not None:
        assert repr(quick) == repr((tried(read_host, body) or (None,))[0])
    if (stored := tried(parse_tags, body)) is not None:
        assert [model.model for model in stored] == sorted({model.model for model in stored})
    if (models := tried(parse_ollama, body)) is not None:
        assert all(model.model.isprintable() for model in models)
        assert [model.model for model in models] == sorted({model.model for model in models})


def test_what_is_plainly_good_is_read_the_quick_way() -> None:
    for body in (
        sidecar_body(),
        sidecar_body(gpu_body(0, used_gb=1), gpu_body(1, used_gb=2)),
        sidecar_body(load_avg=None, cpu_percent=None, uptime_s=0, hostname="łódź"),
    ):
        assert repr(read_good_host(body)) == repr(read_host(body)[0])


def test_what_our_own_sidecar_says_is_read_the_quick_way() -> None:
    body = json.loads((FIXTURES / "sidecar_metrics.json").read_bytes()) | {"gpu_unreadable": []}
    assert read_good_host(json.dumps(body).encode()) is not None


@pytest.mark.parametrize(
    ("good", "other"),
    [
        (b'"version": 1', b'"version": 2'),
        (b'"ram_used_bytes": 40802189312', b'"ram_used_bytes": 1.0'),
        (b'"ram_used_bytes": 40802189312', b'"ram_used_bytes": 1e3'),
        (b'"ram_used_bytes": 40802189312', b'"ram_used_bytes": -0'),
        (b'"ram_used_bytes": 40802189312', b'"ram_used_bytes": true'),
        (b'"ram_used_bytes": 40802189312', b'"ram_used_bytes": "1"'),
        (b'"ram_used_bytes": 40802189312', b'"ram_used_bytes": 137438953473'),
        (b'"cpu_percent": 12.4', b'"cpu_percent": 1e999'),
        (b'"cpu_percent": 12.4', b'"cpu_percent": NaN'),
        (b'"cpu_percent": 12.4', b'"cpu_percent": 100.01'),
        (b'"cpu_percent": 12.4', b'"cpu_percent": 99.0'),
        (b'"cpu_percent": 12.4', b'"cpu_percent": -0.0'),
        (b'"hostname": "host"', b'"hostname": "\xff"'),
        (b'"hostname": "host"', b'"hostname": "\\ud800"'),
        (b'"hostname": "host"', b'"hostname": ' + b"[" * 5000 + b"]" * 5000),
        (b'"hostname": "host"', b'"hostname": ' + b"9" * 5000),
        (b'"hostname": "host"', b'"new": 1e999'),
        (b'"hostname": "host"', b'"new": NaN'),
        (b'"hostname": "host"', b'"cpu_percent": "x", "hostname": 1'),
        (b'"hostname": "host"', b'"hostname": "a\\u202eb"'),
        (b'"hostname": "host"', b'"hostname": ""'),
        (b'"temperature_c": 61', b'"temperature_c": 4294967295'),
        (b'"power_w": 212.5', b'"power_w": 4294967.295'),
        (b'"index": 0', b'"index": 257'),
        (b'"GPU-0"', b'"GPU-\x7f"'),
        (b'"GPU-0"', b'"GPU-1"'),
        (b'"index": 0', b'"index": 1'),
        (b'"ram_available_bytes": 96636764160', b'"ram_available_bytes": 137438953473'),
        (b'"vram_free_bytes": 24696061952', b'"vram_free_bytes": 24696061953'),
        (b'"gpu_unreadable": []', b'"gpu_unreadable": [{"index": 2, "uuid": null, "reason": "lost"}]'),
    ],
)
def test_the_quick_way_never_reads_what_the_other_would_not(good: bytes, other: bytes) -> None:
    body = sidecar_body(gpu_body(0, used_gb=1, uuid="GPU-0"), gpu_body(1, used_gb=1, uuid="GPU-1"))
    assert good in body
    survives(body.replace(good, other, 1))


@given(st.binary(max_size=200))
def test_random_bytes_never_do_harm(body: bytes) -> None:
    survives(body)


@given(st.text(string.printable + '"{}[],:é\ud800', max_size=60))
def test_random_text_never_does_harm(body: str) -> None:
    survives(body.encode(errors="surrogatepass"))


@given(VALUES)
def test_random_json_never_does_harm(value: Any) -> None:
    survives(json.dumps(value).encode())


@given(st.dictionaries(st.sampled_from(HOST_KEYS), VALUES))
def test_a_sidecar_with_random_values_never_does_harm(changes: dict[str, Any]) -> None:
    survives(sidecar_body(**changes))


@given(st.lists(st.builds(lambda changes: gpu_body(0, used_gb=1) | changes, GPUS), max_size=3))
def test_gpus_with_random_values_never_do_harm(gpus: list[dict[str, Any]]) -> None:
    survives(sidecar_body(*gpus))


@given(st.lists(MODELS, max_size=3))
@example([{"name": "m", "expires_at": "0001-01-01T00:00:00+23:59"}])
@example([{"name": "m", "expires_at": "2199-12-31T23:59:59-23:59"}])
def test_models_with_random_values_never_do_harm(models: list[dict[str, Any]]) -> None:
    survives(json.dumps({"models": models}).encode())


@given(st.data())
def test_an_answer_that_is_cut_or_scratched_never_does_harm(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from([sidecar_body(gpu_body(0, used_gb=1)), ollama_body("m")])))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(body[: data.draw(st.integers(0, len(body)))]))
    survives(bytes(body))
