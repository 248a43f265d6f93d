"""How an Ollama's answers are read, or refused with a reason."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from machines_server.core.sample import (
    LoadedModel,
    StoredModel,
)
from machines_server.runtimes.fields import MAX_VALUE_CHARACTERS, Oddities
from machines_server.runtimes.ollama import MAX_MODELS
from tests.bodies import FIXTURES, ollama_body, sha
from tests.runtimes.reading import parse_ollama, read_ollama, read_tags
from tests.runtimes.refusals import refused

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


@pytest.mark.parametrize(
    "digest",
    [
        *("", None, "sha256:", "unknown", "dummy", "0" * 64, "sha256:" + "0" * 64, "f" * 64, "E" * 64),
        *(sha("m")[:63], sha("m") + "0", sha("m")[:63] + "g", sha("m")[:62] + "\u0661\u0661"),
        f"sha512:{sha('m')}",
    ],
)
def test_a_digest_that_says_nothing_is_unknown(digest: str | None) -> None:
    assert one_model(digest=digest).digest is None


def test_a_digest_is_the_same_with_and_without_its_algorithm() -> None:
    digest = sha("phi3:mini")
    for told in (digest, f"sha256:{digest}", digest.upper()):
        assert one_model(digest=told).digest == digest


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
def test_an_expiry_that_is_no_time_is_unknown(expires_at: str) -> None:
    (model,), odd = read_ollama(ollama_body("m", expires_at=expires_at))
    assert model.expires_at is None
    assert odd.kinds == {"models[].expires_at"}


def test_a_name_is_text_and_not_markup() -> None:
    assert one_model(model="<script>alert(1)</script>").model == "<script>alert(1)</script>"
    assert one_model(model="模型 é '\"&").model == "模型 é '\"&"
    assert one_model(model="x" * MAX_VALUE_CHARACTERS).model == "x" * MAX_VALUE_CHARACTERS


@pytest.mark.parametrize(
    ("changes", "unknown", "words"),
    [
        ({"digest": 7}, "digest", "7 is not a non-blank string"),
        ({"digest": "a\tb"}, "digest", "'a\\tb' has control characters"),
        ({"size": "4"}, "size_bytes", "'4' is not a whole number"),
        ({"size": 4.5}, "size_bytes", "4.5 is not a whole number"),
        ({"size": 4e9}, "size_bytes", "4000000000.0 is not a whole number"),
        ({"size": True}, "size_bytes", "True is not a whole number"),
        ({"size": -1}, "size_bytes", "-1 is out of range"),
        ({"size": 2**63}, "size_bytes", "9223372036854775808 is out of range"),
        ({"size": [4]}, "size_bytes", "a list is not a whole number"),
        ({"size_vram": -1}, "size_vram_bytes", "-1 is out of range"),
        ({"size_vram": False}, "size_vram_bytes", "False is not a whole number"),
        ({"context_length": -1}, "context_length", "-1 is out of range"),
        ({"context_length": "4096"}, "context_length", "'4096' is not a whole number"),
        ({"expires_at": 1795453200}, "expires_at", "1795453200 is not a non-blank string"),
        ({"expires_at": {"seconds": 1}}, "expires_at", "an object is not a non-blank string"),
    ],
)
def test_an_odd_field_of_a_model_is_unknown_and_costs_no_other(
    changes: dict[str, Any], unknown: str, words: str
) -> None:
    good = {"expires_at": "2026-11-23T18:48:22Z"}
    (model,), odd = read_ollama(ollama_body("phi3:mini", **good | changes))
    (as_it_would_be,) = parse_ollama(ollama_body("phi3:mini", **good))
    assert getattr(as_it_would_be, unknown) is not None
    nothing: dict[str, Any] = {unknown: None}
    assert model == replace(as_it_would_be, **nothing)
    assert str(odd) == f"invalid, so shown as unknown: phi3:mini: {next(iter(changes))}: {words}"


def test_a_part_on_the_gpu_that_is_odd_is_not_none_of_it() -> None:
    assert one_model(size_vram=-1).processor == "unknown"
    assert one_model(size=-1).processor == "unknown"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"model": None, "name": None}, "models[1].name: missing"),
        ({"model": "", "name": ""}, "models[1].name: '' is not a non-blank string"),
        ({"name": "  "}, "models[1].name: '  ' is not a non-blank string"),
        (
            {"model": ["m"], "name": 7},
            "models[1].model: a list is not a non-blank string; models[1].name: 7 is not a non-blank string",
        ),
        ({"model": "x" * 2**18}, "invalid, so shown as unknown: models[1].model: longer than 512 characters"),
        ({"name": "a\0b"}, "models[1].name: 'a\\x00b' has control characters"),
        ({"name": "a\x1b[2Jb"}, "has control characters"),
        ({"name": "a\u202eb"}, "has control characters"),
        ({"name": "a\u2028b"}, "has control characters"),
        ({}, "models[1].name: missing"),
        (None, "models[1].name: missing"),
        ("m", "models[1].name: missing"),
        (["m"], "models[1].name: missing"),
    ],
)
@pytest.mark.parametrize("read", [read_ollama, read_tags])
def test_an_entry_without_a_usable_name_costs_no_other(
    read: Callable[[bytes], tuple[tuple[LoadedModel | StoredModel, ...], Oddities]], entry: Any, words: str
) -> None:
    models = [{"name": "before", "size": 1}, entry, {"name": "after", "size": 2}]
    found, odd = read(json.dumps({"models": models}).encode())
    assert [(model.model, model.size_bytes) for model in found] == [("after", 2), ("before", 1)]
    assert words in str(odd)
    assert odd.kinds <= {"models[].name", "models[].model"}


def test_a_name_is_taken_where_there_is_one() -> None:
    assert [one_model(model=other).model for other in (7, " ", "a\nb", None)] == ["phi3:mini"] * 4


def test_ten_thousand_oddities_are_said_in_one_short_line() -> None:
    models = [{"name": "x" * 500 + str(number), "size": -1} for number in range(10_000)]
    found, odd = read_tags(json.dumps({"models": models}).encode())
    assert len(found) == 10_000
    assert str(odd).endswith("; and 9997 more")
    assert len(str(odd)) < 500


@pytest.mark.parametrize("models", [{}, "m", 1, True])
def test_models_that_are_no_list_are_refused(models: Any) -> None:
    reason = refused(parse_ollama, json.dumps({"models": models}).encode())
    assert reason == "models: not a list of objects"


def test_an_object_without_models_is_probably_no_ollama() -> None:
    assert refused(parse_ollama, b"{}") == "models: missing; is this an Ollama?"
    assert refused(parse_ollama, b'{"error": "not found"}') == "models: missing; is this an Ollama?"


def test_more_models_than_any_host_can_hold_are_refused() -> None:
    names = [f"m{number}" for number in range(MAX_MODELS + 1)]
    assert "1001 entries" in refused(parse_ollama, ollama_body(*names))
    assert len(parse_ollama(ollama_body(*names[:-1]))) == MAX_MODELS
