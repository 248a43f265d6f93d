"""What can go wrong.

ClientError (a RuntimeError)
 +-- ServerUnreachable   no answer came in time
 +-- ServerUnavailable   the server cannot answer at present
 +-- TooMany             the server has reached a limit
 +-- BadRequest          the request is invalid
 +-- Unauthorized        the request is not signed as the server demands
 +-- Forbidden           this agent may not do that
 +-- PassphraseNeeded    the private key is protected
 +-- UnknownMachine      no machine has or had that name
 +-- NoMachine           no machine is fit
 +-- LeaseLost           a lease no longer holds

A misspelt keyword is a TypeError.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
"""Characters that would control a terminal or forge lines of a log, and invisible ones."""


def printable(text: str) -> str:
    r"""Escape each character that would control a terminal or is invisible, for example as `\x1b`."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


class ClientError(RuntimeError):
    """Base class: the server could not be reached, or did not give the requested answer."""

    retry_after_s: float | None = None
    """Seconds after which the same request may succeed; None if the server does not say."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(printable(message))
        self.retry_after_s = retry_after_s


class ServerUnreachable(ClientError):
    """The server could not be reached, or did not answer in time.

    `is_refused`: nothing listens at its address, as while it is restarted.
    """

    def __init__(self, message: str, *, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused


class ServerUnavailable(ClientError):
    """The server, or a proxy in front of it, cannot answer at present: status 502, 503 or 504."""


class TooMany(ClientError):
    """The server has reached a limit, for example of leases of one holder: status 429."""


class BadRequest(ClientError):
    """The request is invalid; `parameter` names the invalid parameter."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class Unauthorized(ClientError):
    """The server accepts only signed requests: status 401; `reason` is its code, such as `unknown_agent`."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(ClientError):
    """The agent that signed may not do that: status 403."""


class PassphraseNeeded(ClientError):
    """The private key is protected by a passphrase that was not given."""


class UnknownMachine(ClientError):
    """No machine has or had that name."""


class LeaseLost(ClientError):
    """A lease no longer holds: it expired, somebody released it, or its machine cannot be used."""


@dataclass(frozen=True)
class Rejection:
    """Why a machine is not fit: a code for programs, a sentence for people."""

    name: str
    code: str
    reason: str

    def __post_init__(self) -> None:
        for key in ("name", "code", "reason"):
            object.__setattr__(self, key, printable(getattr(self, key)))


class NoMachine(ClientError):
    """No machine is fit; `rejected` says why for each, nearest miss first.

    `retry_after_s` is None if waiting does not help, else the message ends with it. `did_you_mean` names
    models that may be meant by a name that no machine has. `body` is the JSON of the server's answer.
    """

    def __init__(
        self,
        message: str,
        rejected: Iterable[Rejection],
        body: Mapping[str, Any],
        *,
        retry_after_s: float | None = None,
        did_you_mean: Iterable[str] = (),
    ) -> None:
        hint = "" if retry_after_s is None else f" Try again in {retry_after_s:g} s."
        super().__init__(f"{message}{hint}", retry_after_s)
        self.rejected, self.body = tuple(rejected), body
        self.did_you_mean = tuple(map(printable, did_you_mean))
