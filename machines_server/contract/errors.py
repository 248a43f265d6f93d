"""Errors as every path of the API returns them, and the exceptions that they stand for."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple, overload

from msgspec import UNSET, Struct, UnsetType

from machines_server.contract.encoding import encode
from machines_server.contract.routing import NoMachine, no_machine
from machines_server.core.text import printable
from machines_server.errors import (
    BadParameterError,
    ConflictError,
    EngineError,
    ForbiddenError,
    LockedError,
    NoMachineError,
    StoreError,
    TooManyError,
    TooMuchError,
    UnknownLeaseError,
    UnknownMachineError,
    UnreachableStoreError,
)


class ErrorBody(Struct, frozen=True, kw_only=True):
    """Why a request failed."""

    error: str
    """A code in snake case."""
    message: str
    """A sentence for people that says what to do."""


class BadParameterBody(ErrorBody, frozen=True, kw_only=True):
    """A parameter is unknown, missing or invalid."""

    parameter: str
    """Its name."""
    did_you_mean: Sequence[str] | UnsetType = UNSET
    """Values that may have been meant, the closest first; absent if there is none."""


class UnknownMachineBody(ErrorBody, frozen=True, kw_only=True):
    """No machine has that name."""

    did_you_mean: Sequence[str]
    """Names that may have been meant, the closest first; empty if there is none."""


class TooManyBody(ErrorBody, frozen=True, kw_only=True):
    """A limit that `error` names is reached."""

    retry_after_s: int
    """Seconds to wait before trying again; also the header Retry-After."""


class UnauthorizedBody(ErrorBody, frozen=True, kw_only=True):
    """The request is not signed by a known agent; status 401, or 503 if that cannot be checked."""

    reason: str
    """`missing_headers`, `unknown_agent`, `bad_signature`, `timestamp_out_of_window`, `nonce_replayed`,
    `malformed`, or `key_server_unreachable`."""


class ErrorAnswer(NamedTuple):
    """An error, its status, and the seconds of its Retry-After header, if any."""

    status: int
    content: ErrorBody | NoMachine
    retry_after_s: int | None = None


def error_json(code: str, message: str) -> bytes:
    """The JSON of an error that has no further keys."""
    return encode(ErrorBody(error=code, message=printable(message)))


def answer_to(error: Exception) -> ErrorAnswer | None:
    """The answer to a request that raised this exception; None if it is an internal error."""
    message = printable(str(error))
    match error:
        case BadParameterError():
            content: ErrorBody = BadParameterBody(
                error="bad_parameter",
                message=message,
                parameter=error.parameter,
                did_you_mean=error.did_you_mean or UNSET,
            )
            return ErrorAnswer(400, content)
        case TooMuchError():
            return ErrorAnswer(400, ErrorBody(error="too_much", message=message))
        case UnknownMachineError():
            content = UnknownMachineBody(
                error="unknown_machine", message=message, did_you_mean=error.did_you_mean
            )
            return ErrorAnswer(404, content)
        case UnknownLeaseError():
            return ErrorAnswer(404, ErrorBody(error="unknown_lease", message=message))
        case ForbiddenError():
            return ErrorAnswer(403, ErrorBody(error="forbidden", message=message))
        case ConflictError():
            return ErrorAnswer(409, ErrorBody(error=error.code, message=message))
        case TooManyError():
            retry_after_s = max(whole_seconds(error.retry_after_s), 1)
            content = TooManyBody(error=error.code, message=message, retry_after_s=retry_after_s)
            return ErrorAnswer(429, content, retry_after_s)
        case NoMachineError():
            return ErrorAnswer(503, no_machine(error), whole_seconds(error.retry_after_s))
        case StoreError():
            return _unusable_store(error, message)
        case _:
            return None


def _unusable_store(error: StoreError, message: str) -> ErrorAnswer:
    is_engine = isinstance(error, EngineError)
    told = message if is_engine else f"The database cannot be used: {message.removesuffix('.')}."
    may_be_back_soon = is_engine or isinstance(error, UnreachableStoreError | LockedError)
    content = ErrorBody(error="store_unavailable", message=told)
    return ErrorAnswer(503, content, 1 if may_be_back_soon else None)


@overload
def whole_seconds(seconds: float) -> int: ...
@overload
def whole_seconds(seconds: float | None) -> int | None: ...
def whole_seconds(seconds: float | None) -> int | None:
    """The seconds of Retry-After, rounded up; None stays None."""
    return None if seconds is None else ceil(seconds)
