"""Keys in files, as OpenSSH writes them: only `ssh-ed25519`."""

import errno
import os
import re
import stat
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

MAX_KEYS = 8
"""How many keys of one agent count, so that a new one can be added before the old one is removed."""
_MAX_FILE_BYTES = 2**14
_SETTLE_NS = 2_000_000_000
"""A file that was read sooner than this after a change may change again without a new timestamp."""
_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_TYPE = b"ssh-ed25519"
_HEAD = len(_TYPE).to_bytes(4) + _TYPE + (32).to_bytes(4)
"""How the blob of a public key begins (RFC 8709, section 4)."""


class KeyFileError(Exception):
    """A key cannot be used; the text is a sentence without its content."""


class PublicKey(Protocol):
    """A public key, from any library."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise InvalidSignature of `cryptography` unless the key's owner has signed the data."""


MakeKey = Callable[[bytes], PublicKey]
"""Makes a key from its 32 bytes."""


class PassphraseNeededError(KeyFileError):
    """The private key is protected by a passphrase, and none was given."""


def is_agent_name(agent: str) -> bool:
    """Return whether an agent may have this name, which is also the name of a file."""
    return _AGENT.fullmatch(agent) is not None


def parse_public_keys(
    text: bytes, make_key: MakeKey = Ed25519PublicKey.from_public_bytes
) -> tuple[PublicKey, ...]:
    """The ed25519 keys among the lines of a file, up to MAX_KEYS; other lines are skipped."""
    keys = (_parse_line(line) for line in text.splitlines())
    return tuple(make_key(key) for key in keys if key is not None)[:MAX_KEYS]


def read_public_keys(
    path: Path, make_key: MakeKey = Ed25519PublicKey.from_public_bytes
) -> tuple[PublicKey, ...]:
    """The keys in an agent's file; raises KeyFileError if there is no usable one."""
    try:
        keys = parse_public_keys(read_regular_file(path), make_key)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if not keys:
        raise KeyFileError(f"{path} has no ssh-ed25519 public key")
    return keys


def read_regular_file(path: Path) -> bytes:
    """The first 16 KiB of a file; opening never blocks on a device or a named pipe. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(_MAX_FILE_BYTES)


def _parse_line(line: bytes) -> bytes | None:
    """The 32 bytes of the key."""
    words = line.split()
    if len(words) < 2 or words[0] != _TYPE:
        return None
    try:
        blob = b64decode(words[1], validate=True)
    except ValueError:
        return None
    if len(blob) != len(_HEAD) + 32 or not blob.startswith(_HEAD):
        return None
    return blob[len(_HEAD) :]


_Signature = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _File:
    signature: _Signature
    keys: tuple[PublicKey, ...]


class PublicKeys:
    """The folder of `AGENT.pub` files; a file that is added, changed or removed counts at once."""

    def __init__(
        self,
        folder: Path,
        on_unusable: Callable[[str], None] = lambda _: None,
        make_key: MakeKey = Ed25519PublicKey.from_public_bytes,
    ) -> None:
        """`on_unusable` is called with a sentence about each new version of a file without a usable key."""
        self._folder, self._on_unusable, self.make_key = str(folder), on_unusable, make_key
        self._files: dict[str, _File] = {}

    def of(self, agent: str) -> tuple[PublicKey, ...]:
        """The keys of an agent; none if it is unknown."""
        known = self._files.get(agent)
        if known is None and not is_agent_name(agent):
            return ()
        path = f"{self._folder}/{agent}.pub"
        try:
            found = os.stat(path)  # noqa: PTH116  called for each request, and cheaper
        except OSError:
            self._files.pop(agent, None)
            return ()
        signature = found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns
        is_changed = known is None or known.signature != signature
        if known is None or is_changed or time.time_ns() - found.st_ctime_ns < _SETTLE_NS:
            known = self._files[agent] = _File(signature, self._read(path, tells=is_changed))
        return known.keys

    def _read(self, path: str, *, tells: bool) -> tuple[PublicKey, ...]:
        try:
            return read_public_keys(Path(path), self.make_key)
        except KeyFileError as error:
            if tells:
                self._on_unusable(str(error))
            return ()


def read_private_key(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    """Read an OpenSSH private key; raises KeyFileError, and PassphraseNeededError if it needs one."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(f"The private key {path} cannot be read: {error.strerror}.") from None
    if os.name == "posix" and mode & 0o077:
        raise KeyFileError(f"Others may read the private key {path}: run chmod 600 {path}.")
    try:
        key = load_ssh_private_key(text, passphrase.encode() if passphrase else None)
    except TypeError:
        raise PassphraseNeededError(f"The private key {path} needs its passphrase.") from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = "or the passphrase is wrong" if passphrase else "as ssh-keygen writes it"
        raise KeyFileError(f"{path} is not an OpenSSH private key, {wrong}.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is not an ed25519 key; make one with `machines-server keygen`.")
    return key


def make_pair(agent: str, passphrase: str | None = None) -> tuple[bytes, bytes]:
    """A new private key and the line of its public key, as OpenSSH writes them."""
    key = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private, public + b" " + agent.encode() + b"\n"
