"""Interprets an engine's answer to a request with samples."""

from enum import Enum
from typing import NamedTuple


class Fate(Enum):
    """What becomes of the samples."""

    ACCEPTED = "accepted"
    SEND_AGAIN = "send again"
    REFUSED = "refused"


class Verdict(NamedTuple):
    """What becomes of the samples of a request, and why."""

    fate: Fate
    reason: str = ""
    """A word for the counts of what was dropped."""


_OF_NO_SAMPLE = frozenset({401, 403, 404, 405, 407, 408, 425, 429})
"""Statuses below 500 that concern the request, the credential or the load."""
_WORDS_OF_REFUSALS = (
    (b"duplicate sample", "duplicate"),
    (b"out of order", "out_of_order"),
    (b"out-of-order", "out_of_order"),
    (b"too old", "too_old"),
    (b"too-old", "too_old"),
    (b"out of bounds", "too_old"),
    (b"too far in the past", "too_old"),
    (b"too far in the future", "too_new"),
)
_SEARCHED_BYTES = 4096


def verdict_of(status: int, body: bytes) -> Verdict:
    """What an answer means.

    From status 500 on, only the text tells whether the engine will ever take the samples: Prometheus with
    an out-of-order window answers samples before that window with 500 and "too old sample".
    """
    if 200 <= status < 300:
        return Verdict(Fate.ACCEPTED)
    if status < 400 or status in _OF_NO_SAMPLE:
        return Verdict(Fate.SEND_AGAIN)
    text = body[:_SEARCHED_BYTES].lower()
    found = next((reason for words, reason in _WORDS_OF_REFUSALS if words in text), None)
    if found is None and status >= 500:
        return Verdict(Fate.SEND_AGAIN)
    return Verdict(Fate.REFUSED, found or ("too_large" if status == 413 else "refused"))
