"""Messages are those that the reference implementation of protocol buffers makes."""

import struct

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.store.promql.message import Rows, Stamps, compressed, ends, label, series_of, series_with
from machines_server.store.promql.names import END_OF_STAMPS_MS, FIRST_STAMP_MS
from tests.store.promql.messages import STALE, read, write_request

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)
LABELS = st.dictionaries(st.text("abcxyz_", min_size=1), TEXT, min_size=1, max_size=6)
SERIES = st.lists(st.tuples(LABELS, st.floats(allow_nan=False)), min_size=1, max_size=5)
STAMPS = st.integers(FIRST_STAMP_MS, END_OF_STAMPS_MS - 1)


def encoded(labels: dict[str, str]) -> bytes:
    return b"".join(label(name, value) for name, value in sorted(labels.items()))


@given(SERIES, STAMPS)
def test_a_message_has_the_bytes_of_the_reference(
    series: list[tuple[dict[str, str], float]], at_ms: int
) -> None:
    expected = write_request()()
    for labels, value in series:
        one = expected.timeseries.add()
        for name in sorted(labels):
            one.labels.add(name=name, value=labels[name])
        # In proto3 a value of 0 is not sent; we send it, which readers take for the same.
        one.samples.add(value=value, timestamp=at_ms)
    buffer = Rows([encoded(labels) for labels, _ in series]).message([value for _, value in series], at_ms)
    assert write_request().FromString(buffer) == expected
    if all(struct.pack("<d", value) != bytes(8) for _, value in series):
        assert buffer == expected.SerializeToString(deterministic=True)


@given(LABELS, st.lists(st.tuples(st.none() | st.floats(allow_nan=False), STAMPS), max_size=50))
def test_a_series_may_have_many_samples(
    labels: dict[str, str], samples: list[tuple[float | None, int]]
) -> None:
    expected = write_request()()
    one = expected.timeseries.add()
    for name in sorted(labels):
        one.labels.add(name=name, value=labels[name])
    for value, at_ms in samples:
        if value is not None:
            one.samples.add(value=value, timestamp=at_ms)
    stamps = Stamps(at_ms for _, at_ms in samples)
    each, number = stamps.each(value for value, _ in samples)
    assert write_request().FromString(series_with(encoded(labels), each)) == expected
    assert number == len(one.samples)


@given(st.floats(allow_nan=False), st.lists(STAMPS, max_size=20), st.integers(0, 20), st.integers(0, 20))
def test_a_run_is_the_same_as_each_of_its_samples(
    value: float, at_ms: list[int], start: int, end: int
) -> None:
    start, end = min(start, len(at_ms)), min(end, len(at_ms))
    some = at_ms[start:end]
    assert Stamps(at_ms).run(value, start, end) == Stamps(some).each([value] * len(some))[0]


@given(SERIES, STAMPS)
def test_joined_messages_are_a_message_and_can_be_taken_apart(
    series: list[tuple[dict[str, str], float]], at_ms: int
) -> None:
    rows = Rows([encoded(labels) for labels, _ in series])
    values = [value for _, value in series]
    joined = rows.message(values, at_ms) + rows.message(values, FIRST_STAMP_MS)
    assert [(one.value, one.at_ms) for one in read(joined)] == [
        *((value, at_ms) for value in values),
        *((value, FIRST_STAMP_MS) for value in values),
    ]
    parts = series_of(compressed(joined))
    assert len(parts) == 2 * len(series)
    assert b"".join(parts) == joined


def test_an_end_is_the_nan_of_prometheus_bit_by_bit() -> None:
    message = ends([encoded({"a": "b"}), encoded({"a": "c"})], 1_700_000_000_000)
    assert struct.pack("<Q", STALE) in message
    assert [(one.labels, one.at_ms) for one in read(message)] == [
        ({"a": "b"}, 1_700_000_000_000),
        ({"a": "c"}, 1_700_000_000_000),
    ]
    assert all(one.value != one.value for one in read(message))


def test_a_body_is_compressed_without_frames() -> None:
    assert bytes(cramjam.snappy.decompress_raw(compressed(b"a" * 1000))) == b"a" * 1000
    assert len(compressed(b"a" * 1000)) < 100


def test_a_label_without_a_value_is_left_out_and_a_lone_surrogate_is_escaped() -> None:
    assert label("site", "") == b""
    (found,) = read(Rows([label("machine", "a\ud800")]).message([1.0], FIRST_STAMP_MS))
    assert found.labels == {"machine": "a\\ud800"}


@pytest.mark.parametrize("at_ms", [0, -1, FIRST_STAMP_MS - 1, END_OF_STAMPS_MS])
def test_a_stamp_of_another_length_is_refused(at_ms: int) -> None:
    with pytest.raises(ValueError, match="cannot be the time of a sample"):
        Rows([label("a", "b")]).message([1.0], at_ms)
