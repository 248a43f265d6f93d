"""How to fix an endpoint that gives no usable answer; doubtful hints are left out."""

from collections.abc import Mapping

from machines_server.core import reasons
from machines_server.core.machine import Endpoint
from machines_server.core.reasons import status_code
from machines_server.core.sample import State
from machines_server.runtimes.base import Runtime

PORT_OF_ITSELF = "{key} in {file} must be the port of {what} itself"
"""The end of every hint about a port where something else answers."""


def hint(
    runtime: type[Runtime],
    endpoint: Endpoint,
    file: str,
    state: State,
    code: str,
    *,
    host_key: str = "network.hostname",
) -> str | None:
    """One sentence that fixes the usual cause of a failure, or None where there is no usual cause.

    `code` is the code of the failure's reason, `file` the name of the machine file, and `host_key` the key in
    it that names the host.
    """
    match state:
        case State.OK | State.UNASKED:
            return None
        case State.BUSY:
            template = runtime.busy_hint
        case State.UNREACHABLE:
            template = _UNREACHABLE.get(code) or _start_hint(runtime, endpoint)
        case State.ERROR:
            template = _of_access(endpoint, code) or runtime.hints.get(code) or _WRONG_ANSWER.get(code)
    return template and template.format(
        what=runtime.title,
        key=runtime.port_key,
        scheme_key=runtime.scheme_key,
        host_key=host_key,
        port=endpoint.port,
        file=file,
        hostname=endpoint.hostname,
        ca=endpoint.ca,
        credential=endpoint.credential,
    )


def _of_access(endpoint: Endpoint, code: str) -> str | None:
    """A hint that depends on how the endpoint is polled: with TLS, a credential or its own authorities."""
    if endpoint.credential and code in _NEEDS_CREDENTIAL:
        return _CREDENTIAL_REFUSED
    if not endpoint.reports_host and code == _UNAUTHORISED:
        return _CREDENTIAL_MISSING
    if endpoint.scheme == "https":
        return _OWN_AUTHORITIES if endpoint.ca and code == reasons.NOT_TRUSTED.code else _OVER_TLS.get(code)
    return None


def _start_hint(runtime: type[Runtime], endpoint: Endpoint) -> str:
    is_local = endpoint.hostname in _LOOPBACK
    return (runtime.local_start_hint if is_local else None) or runtime.start_hint


_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_NO_HOST = "is that host running, and does its firewall let port {port} through?"
_UNREACHABLE: Mapping[str, str] = {
    reasons.NO_NAME: "check {host_key} in {file}, or how this server resolves names (DNS)",
    reasons.NO_NETWORK.code: "this server has no route there: check {host_key} in {file}",
    reasons.TIMED_OUT.code: _NO_HOST,
    reasons.NO_ROUTE.code: _NO_HOST,
    reasons.NO_CONNECTION: _NO_HOST,
}

_OTHER_SERVER = f"another server, or a proxy, answers there: {PORT_OF_ITSELF}"
_PLAIN_HTTP = (
    "this server uses plain http: set {scheme_key}: https in {file}, or declare a port that accepts http"
)
_REDIRECT = (
    "a proxy there redirects requests, which we do not follow: declare the port of {what} itself in {file}"
)
_NO_ANSWER = (
    "this is typical of a port that accepts only TLS, belongs to another service, or forwards to nothing:"
    f" {PORT_OF_ITSELF}, and accept plain http"
)
_NO_ANSWER_TO_TLS = (
    "this is typical of a port that belongs to another service, or forwards to nothing:"
    f" {PORT_OF_ITSELF}, or that of a proxy in front of it"
)
_GATEWAY = "a proxy answers there but does not reach {what}: start that, or see the proxy's log"
_COMPRESSED = "a proxy in front of it compresses answers although nobody asked for that"
_PASSWORD = "something in front of it asks for a password, and this server has none"  # noqa: S105  a sentence
_UNAUTHORISED = status_code(401)
_NEEDS_CREDENTIAL = frozenset(map(status_code, (401, 403)))
_CREDENTIAL_MISSING = (
    "something in front of {what} asks for a password or a token: put it into a file in"
    " MACHINES_CREDENTIALS_DIR, and name that as network.credential in {file}"
)
_CREDENTIAL_REFUSED = "it does not accept the content of the credential {credential}: replace that file"
_OWN_AUTHORITIES = "the CA that issued its certificate is not in {ca} in MACHINES_CA_DIR: add it there"
_STATUSES: Mapping[int, str] = {
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECT),
    400: "a proxy or a port that accepts only TLS answers there: declare the port of {what} itself in {file}",
    **dict.fromkeys((401, 407, 511), _PASSWORD),
    403: "a proxy in front of it refuses this server",
    **dict.fromkeys((405, 406, 410, 501), _OTHER_SERVER),
    421: "a proxy there does not know the name {hostname}",
    429: "a proxy in front of it limits the rate of requests",
    500: "its own log says why",
    **dict.fromkeys((502, 503, 504, *range(520, 528), 530), _GATEWAY),
}
"""520 to 530 are Cloudflare's."""
_WRONG_ANSWER: Mapping[str, str] = {
    **{status_code(status): template for status, template in _STATUSES.items()},
    reasons.TO_HTTPS: _PLAIN_HTTP,
    reasons.TLS_PORT: _PLAIN_HTTP,
    reasons.STARTING: "it answers in a second",
    reasons.STALLED: "restart {what} if this lasts",
    **dict.fromkeys((reasons.NO_HTTP.code, reasons.CLOSED.code, reasons.RESET.code), _NO_ANSWER),
    **dict.fromkeys((reasons.ENCODED.code, reasons.COMPRESSED.code), _COMPRESSED),
    **dict.fromkeys((reasons.NO_OBJECT.code, reasons.NO_JSON, reasons.OTHER_KIND), _OTHER_SERVER),
    reasons.HTML.code: f"a log-in page, or another page of a proxy or server, is there: {PORT_OF_ITSELF}",
    reasons.PROMETHEUS.code: f"that is an exporter, such as node_exporter: {PORT_OF_ITSELF}",
    reasons.NO_TLS.code: "it does not speak TLS there: set {scheme_key}: http in {file}, or another port",
    reasons.NOT_TRUSTED.code: (
        "put its CA certificate into a file in MACHINES_CA_DIR, and name that file as network.ca in {file}"
    ),
    reasons.OTHER_NAME.code: (
        "declare in {file} a name that is in its certificate, or have it renewed with {hostname} in it"
    ),
    reasons.EXPIRED.code: "renew it on that host",
    reasons.NOT_VALID_YET.code: "compare the clock of this server with that of the host that made it",
}
_OVER_TLS: Mapping[str, str] = {
    reasons.TO_HTTPS: _REDIRECT,
    reasons.TLS_PORT: _GATEWAY,
    **dict.fromkeys((reasons.NO_HTTP.code, reasons.CLOSED.code, reasons.RESET.code), _NO_ANSWER_TO_TLS),
}
"""Hints for endpoints that are polled over TLS."""
