"""JSON that no host may send is refused with a reason."""

import gzip
from collections.abc import Callable, Iterator

import pytest

from machines_server.core.sample import (
    HostSample,
)
from machines_server.errors import BadAnswerError
from machines_server.poll.transfer import MAX_POLL_ANSWER_BYTES
from machines_server.runtimes.fields import Oddities
from tests.bodies import sidecar_body
from tests.runtimes.reading import parse_ollama, parse_sidecar, parse_tags, read_ollama, read_sidecar
from tests.runtimes.refusals import refused


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
        (b"# HELP cpu_percent\ncpu_percent 1\n", "not JSON, but Prometheus text"),
        (b"<!DOCTYPE html><html><body>It works!</body></html>", "HTML, not JSON"),
        (b"\n  <html>", "HTML, not JSON"),
        (b"null", "not an object"),
        (b"true", "not an object"),
        (b"[]", "not an object"),
        (b'"version"', "not an object"),
        (b"1", "not an object"),
        (gzip.compress(b'{"version": 1, "models": []}', mtime=0), "compressed"),
        (nested(100_000).encode(), "no valid JSON"),
        (nested(100_000, '{"a":', "}").encode(), "no valid JSON"),
        (b"[" * MAX_POLL_ANSWER_BYTES, "no valid JSON"),
        (b'"' + b"\\" * (MAX_POLL_ANSWER_BYTES - 1), "no valid JSON"),
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
        *(nested(100_000), nested(1024), nested(1000, '{"a":[', "]}")),
    ],
    ids=lambda value: value[:12],
)
def test_numbers_texts_and_depths_that_json_does_not_have_never_get_through(value: str) -> None:
    for body in put(value):
        with pytest.raises(BadAnswerError):
            parse_sidecar(body)
        with pytest.raises(BadAnswerError):
            parse_ollama(body)


@pytest.mark.parametrize("value", [nested(1000), nested(490, '{"a":[', "]}"), '"' + "x" * 2**19 + '"'])
def test_whatever_stands_in_a_field_is_said_in_a_short_line(value: str) -> None:
    for body in put(value):
        for read in (read_sidecar, read_ollama):
            assert 0 < len(said_of(read, body)) < 200


def said_of(read: Callable[[bytes], tuple[object, Oddities]], body: bytes) -> str:
    """Why a body is refused, or what is odd in it."""
    try:
        return str(read(body)[1])
    except BadAnswerError as error:
        return str(error)


def test_of_two_equal_keys_the_last_counts() -> None:
    assert parse_sidecar(b'{"version": 2, "version": 1, "gpu": []}') == HostSample()
    assert parse_ollama(b'{"models": 1, "models": [], "models": null}') == ()


def test_a_huge_value_is_not_repeated_in_the_reason() -> None:
    refused(parse_sidecar, sidecar_body(version=["x" * 2**20]))
    refused(parse_sidecar, sidecar_body(version="x" * 2**20))
