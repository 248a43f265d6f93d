"""Messages of Prometheus' remote write, version 1, as protocol buffers.

A WriteRequest is a sequence of TimeSeries, so messages are joined by joining their bytes. Every series has
one sample. See https://prometheus.io/docs/specs/prw/remote_write_spec/.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct, pack

import cramjam

from machines_server.store.promql.names import END_OF_STAMPS_MS, FIRST_STAMP_MS

_SERIES = _LABEL = _LABEL_NAME = b"\x0a"
_LABEL_VALUE = _SAMPLE = b"\x12"
_VALUE, _STAMP = b"\x09", b"\x10"
_SAMPLE_BYTES = 16
_write = Struct("<d7s")
"""The value of a sample, and its stamp with the byte before it."""
_SAMPLE_HEAD = _SAMPLE + bytes([_SAMPLE_BYTES]) + _VALUE
_STALE = pack("<Q", 0x7FF0000000000002)
"""The NaN that ends a series. As a float of Python it might lose bits."""


def label(name: str, value: str) -> bytes:
    """One label; nothing for an empty value, which the protocol takes for no label.

    Those of a series are joined in the order of their names.
    """
    if not value:
        return b""
    return _LABEL + _sized(_LABEL_NAME + _sized(_utf8(name)) + _LABEL_VALUE + _sized(_utf8(value)))


class Rows:
    """Series that get their samples together: one template, into which values and stamps are written.

    That takes a third less time than joining the parts of each series.
    """

    def __init__(self, labels: Sequence[bytes]) -> None:
        """The labels of each series."""
        self.count = len(labels)
        template, places = bytearray(), list[int]()
        for one in labels:
            template += _head(one)
            places.append(len(template))
            template += bytes(_write.size)
        self._template, self._places = bytes(template), _shared(tuple(places))

    def add(self, buffer: bytearray, values: Iterable[float], at_ms: int) -> None:
        """Append a sample for each series; `at_ms` is from FIRST_STAMP_MS until END_OF_STAMPS_MS."""
        start, stamp, write = len(buffer), _stamp(at_ms), _write.pack_into
        buffer += self._template
        for place, value in zip(self._places, values, strict=True):
            write(buffer, start + place, value, stamp)


@lru_cache(maxsize=1024)
def _shared(places: tuple[int, ...]) -> tuple[int, ...]:
    """The same object for equal places: machines whose names are equally long share it."""
    return places


def ends(labels: Iterable[bytes], at_ms: int) -> bytes:
    """A message that ends each of these series."""
    tail = _STALE + _stamp(at_ms)
    return b"".join(_head(one) + tail for one in labels)


def compressed(message: bytes | bytearray) -> bytes:
    """The body of a request."""
    return bytes(cramjam.snappy.compress_raw(message))


def series_of(body: bytes) -> list[bytes]:
    """The series of a body that `compressed` has made; joined again, they are the message."""
    return list(_fields(bytes(cramjam.snappy.decompress_raw(body))))


def _fields(message: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(message):
        size, shift, end = 0, 0, at + 1
        while True:
            byte = message[end]
            size |= (byte & 0x7F) << shift
            shift, end = shift + 7, end + 1
            if byte < 0x80:
                break
        yield message[at : end + size]
        at = end + size


def _head(labels: bytes) -> bytes:
    """All of a series before the value of its sample."""
    size = len(labels) + len(_SAMPLE) + 1 + _SAMPLE_BYTES
    return _SERIES + _varint(size) + labels + _SAMPLE_HEAD


def _stamp(at_ms: int) -> bytes:
    if not FIRST_STAMP_MS <= at_ms < END_OF_STAMPS_MS:
        raise ValueError(f"{at_ms} ms is no time of a sample")
    return _STAMP + _varint(at_ms)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
