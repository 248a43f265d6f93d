"""Signs the client's requests, if it has a key."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from machines_client.errors import ClientError, PassphraseNeeded

AGENT_VARIABLE, KEY_VARIABLE = "MACHINES_AGENT_ID", "MACHINES_PRIVATE_KEY"
PASSPHRASE_VARIABLE = "MACHINES_KEY_PASSPHRASE"  # noqa: S105  the name of a variable


class Sign(Protocol):
    """Makes the headers that sign a request."""

    def __call__(self, method: str, target: str, body: bytes, /, *, version: int = 2) -> Mapping[str, str]:
        """The headers to add; `target` is path and query as they will be sent. Version 1 signs no query."""


def signing(
    agent: str | None, private_key: str | os.PathLike[str] | None, passphrase: str | None
) -> Sign | None:
    """How to sign, by default as the environment says; None without a key.

    Raises TypeError or ValueError for a wrong argument, ClientError for a key that cannot be used, and
    PassphraseNeeded for one that needs a passphrase.
    """
    agent = _text("agent", agent) or os.environ.get(AGENT_VARIABLE)
    key = _text("private_key", private_key) or os.environ.get(KEY_VARIABLE)
    passphrase = _text("passphrase", passphrase) or os.environ.get(PASSPHRASE_VARIABLE)
    if not agent and not key:
        return None
    if not agent or not key:
        raise ValueError(
            f"to sign, give both an agent and its private key: {AGENT_VARIABLE} and {KEY_VARIABLE}"
        )
    try:
        from request_signing.keys import (
            KeyFileError,
            PassphraseNeededError,
            is_agent_name,
            read_private_key,
        )
        from request_signing.signer import Signer
    except ImportError as error:
        raise ClientError(
            f"signing needs the package cryptography, which cannot be imported: {error}"
        ) from None
    if not is_agent_name(agent):
        raise ValueError(f"{agent!r} cannot be the name of an agent: use letters, digits and . _ @ + -")
    try:
        return Signer(agent, read_private_key(Path(key).expanduser(), passphrase or None)).headers
    except PassphraseNeededError as error:
        raise PassphraseNeeded(f"{error} Set {PASSPHRASE_VARIABLE}.") from None
    except KeyFileError as error:
        raise ClientError(str(error)) from None


def _text(name: str, value: str | os.PathLike[str] | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if name == "private_key" and isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{name} must be a string, not {value!r}")
