"""Ready bytes of JSON, and what they say of a machine."""

import gzip
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import orjson

from machines_server.core.live import Live, live_keys
from machines_server.core.registry import Machine


@dataclass(frozen=True)
class Body:
    """A ready answer; `etag` is the same for the same content, whichever process gives it."""

    json: bytes
    etag: str

    @cached_property
    def packed(self) -> bytes:
        """The same compressed by gzip, once for all who can read that: a tenth."""
        return gzip.compress(self.json, compresslevel=4, mtime=0)


NOTHING = Body(b"", "")


def declared_keys(machine: Machine) -> dict[str, Any]:
    """The keys of its file, in their order, as JSON can hold them."""
    fragments = {key: orjson.Fragment(value) for key, value in machine.declared_json.items()}
    return fragments | {"_config_file": machine.file}


def view(live: Live) -> bytes:
    """A machine as declared, with its live keys."""
    return orjson.dumps(declared_keys(live.machine) | live_keys(live))


def etag_of(body: bytes) -> str:
    """The same for the same bytes, whichever process asks."""
    return blake2b(body, digest_size=12).hexdigest()
