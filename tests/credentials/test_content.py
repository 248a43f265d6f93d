"""The allowed content of a credential and of a CA certificate file."""

import re
import time
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.credentials.content import (
    UnusableError,
    authorization,
    certificates,
    check_authorities,
)
from tests.certificates import authority


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"abc.DEF-123_~+/==\n", "Bearer abc.DEF-123_~+/=="),
        (b"  abc \r\n", "Bearer abc"),
        (b"\xef\xbb\xbfabc", "Bearer abc"),
        (b"abc\nthe second line is a remark\n", "Bearer abc"),
        (b"a" * 4096, f"Bearer {'a' * 4096}"),
    ],
)
def test_a_line_without_a_colon_is_a_bearer_token(content: bytes, header: str) -> None:
    assert authorization(content) == header


@pytest.mark.parametrize("line", ["user:password", "user:", ":password", "us er:p:w", "zoë:pässword"])
def test_a_line_with_a_colon_is_a_user_and_a_password(line: str) -> None:
    scheme, _, encoded = authorization(f"{line}\n".encode()).partition(" ")
    assert scheme == "Basic"
    assert b64decode(encoded).decode() == line


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \t \n", "is empty"),
        (b"\nhunter2\n", "is empty"),
        (b"hunter2\x00", "control characters"),
        (b"hunter2\x1b[0m", "control characters"),
        (b"user:hunter2\rX-Evil: 1", "control characters"),
        ("user:hunter2\u0085".encode(), "control characters"),
        ("hünter2".encode(), "only ASCII"),
        (b"Bearer hunter2", "without the word Bearer"),
        (b"hunter2\xff", "not UTF-8"),
        (b"hunter2" * 586, "over 4 KiB"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2", "a key or a certificate"),
    ],
)
def test_anything_else_is_refused_with_the_rule_and_not_quoted(content: bytes, why: str) -> None:
    with pytest.raises(UnusableError, match=why) as caught:
        authorization(content)
    assert "expected" in str(caught.value)
    assert "nter2" not in str(caught.value)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_content_puts_anything_else_into_a_request(content: bytes) -> None:
    with suppress(UnusableError):
        assert re.fullmatch("(Bearer|Basic) [\x21-\x7e]+", authorization(content))


def test_a_file_of_authorities_has_certificates_that_expire(tmp_path: Path) -> None:
    pem = authority(tmp_path).read_bytes()
    two = pem + authority(tmp_path / "other").read_bytes()
    assert check_authorities(two) == two
    assert len(list(certificates(two))) == 2
    (one,) = certificates(pem)
    assert one.name == "authority"
    assert 0 < one.expires_at - time.time() < 2 * 86_400


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no valid PEM"),
        (b"hunter2", "no valid PEM"),
        (b"-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n", "no valid PEM"),
        (b"\xff" * 100, "no valid PEM"),
        (b"#" * 70_000, "over 64 KiB"),
    ],
)
def test_a_file_without_certificates_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(UnusableError, match=why) as caught:
        check_authorities(content)
    assert "hunter2" not in str(caught.value)
