"""The error for a keyword that does not exist."""

import difflib
from collections.abc import Iterable

_ELSEWHERE = {
    "explain": "it is only for advice: pick and route",
    "ttl_s": "it is only for leases",
    "connect_timeout_s": "it is only for pick, lease and leased",
    "on_lost": "it is only for lease and leased",
    "raise_if_lost": "it is only for lease and leased",
    "timeout_s": "it is an argument of Client",
    "retries": "it is an argument of Client",
    "stale_s": "it is an argument of Client",
    "timeout": "timeout_s is an argument of Client",
}
"""Keywords of other questions."""
_MEANT = {
    "since": "from_",
    "start": "from_",
    "until": "to",
    "end": "to",
    "num_ctx": "min_context",
    "context_length": "min_context",
    "ttl": "ttl_s",
}
"""The keywords meant by words that are spelled differently."""


def unknown_keyword(keyword: str, known: Iterable[str]) -> TypeError:
    """The error for a keyword that is not among the known ones."""
    names = ["from_" if name == "from" else name for name in known]
    if keyword in _ELSEWHERE:
        return TypeError(f"unknown keyword {keyword}; {_ELSEWHERE[keyword]}")
    meant = _MEANT.get(keyword)
    near = [meant] if meant in names else difflib.get_close_matches(keyword, names, 1, 0.4)
    advice = f"did you mean {near[0]}?" if near else f"use {', '.join(names)}"
    return TypeError(f"unknown keyword {keyword}; {advice}")
