"""Finds what is wrong with a message of the protocol where the SDK's error would not help."""

from typing import Any

from msgspec import UNSET, DecodeError, Struct, ValidationError
from msgspec.json import Decoder, encode

_INVALID_REQUEST = -32600
"""JSON-RPC's code for an invalid request."""


class _Message(Struct):
    id: Any = UNSET


_DECODER = Decoder(_Message)


def refusal_of(body: bytes) -> bytes | None:
    """The JSON-RPC error for a message that the SDK would not answer clearly; None leaves it to the SDK.

    It treats a request whose id is null, a fraction or an object as a notification, and never answers.
    """
    try:
        found = _DECODER.decode(body).id
    except ValidationError:
        if body.lstrip().startswith(b"["):
            return _error("Send one message per request: batches are not supported.")
        return _error("The message is not a JSON object.")
    except (DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if found is UNSET or (isinstance(found, int | str) and not isinstance(found, bool)):
        return None
    return _error("The id of a request must be a string or an integer; a notification has none.")


def _error(message: str) -> bytes:
    error = {"code": _INVALID_REQUEST, "message": message}
    return encode({"jsonrpc": "2.0", "id": None, "error": error})
