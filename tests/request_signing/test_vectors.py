"""Signatures made by openssl are accepted, and with any single bit changed they are not."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from request_signing.claims import Claim, read_claim
from request_signing.keys import PublicKeys
from request_signing.message import Refusal, body_hash
from request_signing.verifier import Verifier

FIXTURES = Path(__file__).parents[1] / "fixtures" / "signatures"
"""vectors.jsonl was made with `openssl pkeyutl -sign -rawin`, and agent.pub from the same key."""
NOW = datetime(2026, 11, 29, 7, 1, tzinfo=UTC).timestamp()
KEYS = PublicKeys(FIXTURES)


class Vector(msgspec.Struct, frozen=True):
    """A signed request."""

    method: str
    target: str
    version: int
    timestamp: str
    nonce: str
    body: str
    signature: str


class Sent(NamedTuple):
    """The parts of a request that are signed, as bytes."""

    method: bytes
    target: bytes
    agent: bytes
    timestamp: bytes
    nonce: bytes
    signature: bytes
    body: bytes


def vectors() -> list[Vector]:
    lines = (FIXTURES / "vectors.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Vector) for line in lines]


def sent(vector: Vector) -> Sent:
    return Sent(
        vector.method.encode(),
        vector.target.encode(),
        b"agent",
        vector.timestamp.encode(),
        vector.nonce.encode(),
        vector.signature.encode(),
        vector.body.encode(),
    )


def is_new(_nonce: bytes, _at: float) -> None:
    """Take every number for a new one."""


def verdict(parts: Sent, version: int, keys: PublicKeys = KEYS) -> Refusal | None:
    headers = [
        (b"x-agent-id", parts.agent),
        (b"x-timestamp", parts.timestamp),
        (b"x-nonce", parts.nonce),
        (b"x-signature", parts.signature),
        (b"x-signature-version", str(version).encode()),
    ]
    claim = read_claim(headers, NOW)
    if not isinstance(claim, Claim):
        return claim
    verifier = Verifier(keys, is_new)
    method, target = parts.method.decode("latin-1"), parts.target.decode("latin-1")
    return verifier.refusal(claim, method, target, body_hash(parts.body))


@pytest.mark.parametrize("vector", vectors(), ids=lambda one: f"{one.method} {one.target} {one.version}")
def test_a_signature_of_openssl_is_accepted(vector: Vector) -> None:
    assert verdict(sent(vector), vector.version) is None


def flips(parts: Sent, version: int) -> Iterator[Sent]:
    """The request with each bit of what is signed flipped; the first version does not sign the query."""
    for name, content in parts._asdict().items():
        end = content.partition(b"?")[0] if name == "target" and version == 1 else content
        for bit in range(8 * len(end)):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            if name == "target" and version == 1 and b"?" in changed[: len(end)]:
                continue  # the path ends there now, and is another one
            yield parts._replace(**{name: bytes(changed)})


@pytest.mark.parametrize("vector", vectors(), ids=lambda one: f"{one.method} {one.target} {one.version}")
def test_no_single_bit_may_be_changed(vector: Vector) -> None:
    checked = 0
    for changed in flips(sent(vector), vector.version):
        assert verdict(changed, vector.version) is not None, changed
        checked += 1
    assert checked > 1000


@given(st.sampled_from(vectors()), st.sampled_from(Sent._fields), st.binary(max_size=100))
def test_no_part_may_be_replaced(vector: Vector, name: str, content: bytes) -> None:
    before = sent(vector)
    if content.partition(b"?")[0] != getattr(before, name).partition(b"?")[0]:
        assert verdict(before._replace(**{name: content}), vector.version) is not None


def test_headers_are_missing_malformed_or_old() -> None:
    parts = sent(vectors()[0])
    assert verdict(parts._replace(agent=b""), 1) is Refusal.MISSING_HEADERS
    assert verdict(parts, 3) is Refusal.MALFORMED
    assert verdict(parts._replace(timestamp=b"2026-11-29T06:55:59Z"), 1) is Refusal.TIMESTAMP_OUT_OF_WINDOW
    assert verdict(parts._replace(timestamp=b"2026-11-29T07:02:01Z"), 1) is Refusal.TIMESTAMP_OUT_OF_WINDOW
    assert verdict(parts._replace(timestamp=b"2026-11-29T06:56:00Z"), 1) is Refusal.BAD_SIGNATURE
    assert verdict(parts._replace(timestamp=b"2026-11-29T07:02:00Z"), 1) is Refusal.BAD_SIGNATURE


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    said: list[str] = []
    keys, faults = PublicKeys(tmp_path, said.append), 0
    file, line = tmp_path / "agent.pub", (FIXTURES / "agent.pub").read_bytes()
    parts = sent(vectors()[0])
    for content, expected in (
        (b"", Refusal.UNKNOWN_AGENT),
        (line, None),
        (b"# a comment\n\n" + line, None),
        (line[:-20], Refusal.UNKNOWN_AGENT),
        (b"command=x " + line, Refusal.UNKNOWN_AGENT),
        (line * 9, None),
    ):
        file.write_bytes(content)
        assert verdict(parts, 1, keys) is expected, content
        faults += expected is not None
    file.unlink()
    assert verdict(parts, 1, keys) is Refusal.UNKNOWN_AGENT
    assert said == [f"{file} has no ssh-ed25519 public key"] * faults
