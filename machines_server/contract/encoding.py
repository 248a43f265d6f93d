"""Answers as the bytes to send."""

import gzip
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import msgspec

from machines_server.core.text import escape_in_quotes

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Body:
    """JSON ready to be sent; equal content has the same `etag` in every process."""

    json: bytes
    etag: str

    @classmethod
    def of(cls, json: bytes) -> "Body":
        """A body whose ETag is computed from all its bytes."""
        return cls(json, etag_of(json))

    @cached_property
    def gzipped(self) -> bytes:
        """The JSON compressed with gzip, to about a tenth; computed once, on first use."""
        return gzip.compress(self.json, compresslevel=4, mtime=0)

    @property
    def is_gzipped(self) -> bool:
        """Whether `gzipped` has been computed."""
        return "gzipped" in self.__dict__


def etag_of(json: bytes) -> str:
    """A digest of an answer, the same in every process."""
    return blake2b(json, digest_size=12).hexdigest()


def encode(content: object) -> bytes:
    """JSON in which every character that would control a terminal is escaped."""
    return escape(_encoder.encode(content))


def encode_parts(content: object) -> bytes:
    """JSON of parts that are already escaped or need no escapes."""
    return _encoder.encode(content)


def escape(json: bytes) -> bytes:
    """Escape characters that would control a terminal; encoders escape only the C0 controls."""
    if json.isascii() and b"\x7f" not in json:
        return json
    return escape_in_quotes(json.decode()).encode()
