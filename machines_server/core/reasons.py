"""Why an endpoint gave no usable answer: a sentence for people, and a code for decisions.

Hints are chosen by the code, so nothing that a host sends can choose one.
"""

import re
from typing import NamedTuple


class Reason(NamedTuple):
    """One cause of a failure; causes without a hint share a code."""

    text: str
    code: str = "other"


REFUSED = Reason("connection refused", "refused")
RESET = Reason("connection reset", "reset")
TIMED_OUT = Reason("connection timed out", "timed_out")
NO_ROUTE = Reason("no route to host", "no_route")
NO_NETWORK = Reason("network unreachable", "no_network")
CLOSED = Reason("connection closed without an answer", "closed")
NO_HTTP = Reason("not an HTTP answer", "no_http")
NO_TLS = Reason("no TLS connection", "no_tls")
NOT_TRUSTED = Reason("its certificate is not issued by a CA that is trusted here", "not_trusted")
OTHER_NAME = Reason("its certificate is for another name or address", "other_name")
NOT_VALID_YET = Reason("its certificate is not valid yet", "not_valid_yet")
EXPIRED = Reason("its certificate has expired", "expired")
CUT_SHORT = Reason("answer cut short", "cut_short")
ENCODED = Reason("an encoding that was not asked for", "encoded")
COMPRESSED = Reason("a compressed answer, which was not asked for", "compressed")
HTML = Reason("HTML, not JSON", "html")
PROMETHEUS = Reason("not JSON, but Prometheus text", "prometheus")
NO_OBJECT = Reason("JSON, but not an object", "no_object")
NOT_CONNECTED = Reason("connection failed", "not_connected")

NO_NAME, NO_CONNECTION, NO_JSON = "no_name", "no_connection", "no_json"
OTHER_KIND, OTHER_VERSION = "other_kind", "other_version"
TO_HTTPS, TLS_PORT, STARTING, STALLED = "to_https", "tls_port", "starting", "stalled"
NO_ANSWER, TOO_LARGE, ENDLESS_HEADERS = "no_answer", "too_large", "endless_headers"
UNSIGNED = "unsigned"
CREDENTIAL_UNUSABLE = "credential_unusable"
"""Codes of causes whose texts contain details."""

_DETAILS = {
    TO_HTTPS: "it redirects to https",
    TLS_PORT: "that port accepts only TLS",
    STARTING: "it is starting",
    STALLED: "its readings have stalled",
    UNSIGNED: "it accepts only signed requests",
}
_WANTS_TLS = re.compile(
    rb"(plain http|http request|http version).{0,80}?\b(https|ssl|tls)\b|requires tls", re.DOTALL
)
_SEARCHED_BYTES = 4096


def http_status(status: int, body: bytes = b"", redirect: bytes = b"") -> Reason:
    """The reason for a status other than 200; `redirect` is the target of a redirect."""
    text = f"HTTP status {status}"
    detail = _detail(status, body[:_SEARCHED_BYTES].lower(), redirect.lower())
    return Reason(f"{text}, {_DETAILS[detail]}", detail) if detail else Reason(text, status_code(status))


def status_code(status: int) -> str:
    """The code of an HTTP status whose cause is not known."""
    return f"http_{status}"


def _detail(status: int, body: bytes, redirect: bytes) -> str | None:
    if 300 <= status < 400 and redirect.startswith(b"https:"):
        return TO_HTTPS
    if 400 <= status < 500 and _WANTS_TLS.search(body):
        return TLS_PORT
    if status == 401 and b'"error":"unauthorized"' in body:
        return UNSIGNED
    if status == 503 and b'"error":"starting"' in body:
        return STARTING
    if status == 503 and b'"error":"sampler_stalled"' in body:
        return STALLED
    return None
