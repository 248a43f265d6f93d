"""What is counted, and in which column; labels have fixed sets of values."""

from collections.abc import Iterable, Sequence

OTHER = "other"
"""Stands for each value of a label that has no column of its own."""
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", OTHER)
STATUSES = (
    *(
        "200",
        "201",
        "202",
        "204",
        "206",
        "301",
        "302",
        "303",
        "304",
        "308",
        "400",
        "401",
        "403",
        "404",
        "405",
    ),
    *(
        "406",
        "408",
        "409",
        "411",
        "412",
        "413",
        "415",
        "416",
        "421",
        "422",
        "429",
        "500",
        "501",
        "503",
        OTHER,
    ),
)
LATENCY_BOUNDS_S = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    60.0,
)
"""The upper bounds of the histogram's buckets; a ready answer takes 0.1 ms, and one that waits up to 60 s."""
MAX_ROUTES = 64

LEASE_GRANTED, LEASE_EXPIRED = "granted", "expired"
LEASE_REFUSALS = (
    *("no_machine", "too_many_leases", "bad_parameter", "bad_request", "idempotency_conflict"),
    *("unauthorized", "forbidden", "store_unavailable", "request_entity_too_large", "busy"),
    *("internal_error", OTHER),
)
"""The error codes of POST /api/leases."""
FORBIDDEN, BAD_TOKEN = "forbidden", "bad_token"
AUTH_REFUSALS = (
    *("missing_headers", "malformed", "timestamp_out_of_window", "unknown_agent", "bad_signature"),
    *("nonce_replayed", "key_server_unreachable", FORBIDDEN, BAD_TOKEN, OTHER),
)
"""Why a request is refused, or would be."""

Key = tuple[str, str]
_COLUMN_KEYS: Sequence[Key] = (
    ("leases", LEASE_GRANTED),
    ("leases", LEASE_EXPIRED),
    *(("lease_refusals", reason) for reason in LEASE_REFUSALS),
    *(("auth_refusals", reason) for reason in AUTH_REFUSALS),
)
COLUMN_OF: dict[Key, int] = {key: column for column, key in enumerate(_COLUMN_KEYS)}

_TOTAL_NS = len(STATUSES)
_BUCKETS = _TOTAL_NS + 1
PER_ENDPOINT = _BUCKETS + len(LATENCY_BOUNDS_S) + 1
"""The columns of a method of a route: a count for each status, the total nanoseconds, and the buckets."""
FIRST_OF_ENDPOINTS = len(_COLUMN_KEYS)
COLUMNS = FIRST_OF_ENDPOINTS + MAX_ROUTES * len(METHODS) * PER_ENDPOINT
STATUS_OFFSET = {int(status): offset for offset, status in enumerate(STATUSES) if status != OTHER}
OTHER_STATUS_OFFSET, TOTAL_NS_OFFSET, BUCKETS_OFFSET = len(STATUSES) - 1, _TOTAL_NS, _BUCKETS
METHOD_NUMBER = {method: number for number, method in enumerate(METHODS)}


def labels_of(family: str) -> Iterable[str]:
    """The labels of a family with its own columns."""
    return (label for of, label in _COLUMN_KEYS if of == family)
