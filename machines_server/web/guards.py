"""The outermost layers, which every request passes before it is answered, even by a ready answer."""

from collections import defaultdict
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from machines_server.core.hosts import Network, host_name, is_allowed_host, is_in_networks, unmapped_address
from machines_server.web.messages import Application, Receive, Scope, Send, answer_error, header

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REMEMBERED_HOSTS = 1000
_FORWARDED = frozenset({b"forwarded", b"x-script-name"}).union(
    b"x-forwarded-" + name for name in (b"for", b"host", b"port", b"prefix", b"proto", b"server")
)


class HttpOnly:
    """Refuses WebSockets, and passes on requests with a plain client address."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on HTTP requests."""
        if scope["type"] == "http":
            if scope["client"] is not None:
                scope["client"] = unmapped_address(scope["client"][0]), scope["client"][1]
            await self._application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})


class TrustedProxies:
    """Takes client, scheme, host and prefix from trusted proxies' headers; drops such headers from others."""

    def __init__(self, application: Application, proxies: tuple[Network, ...] = ()) -> None:
        self._application, self._proxies = application, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Apply and remove forwarded headers, and pass on the request."""
        forwarded = [pair for pair in scope["headers"] if pair[0] in _FORWARDED]
        if forwarded:
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _FORWARDED]
            if scope["client"] is not None and is_in_networks(scope["client"][0], self._proxies):
                self._apply(scope, forwarded)
        await self._application(scope, receive, send)

    def _apply(self, scope: Scope, forwarded: list[tuple[bytes, bytes]]) -> None:
        values: defaultdict[bytes, list[str]] = defaultdict(lambda: [""])
        for name, value in forwarded:  # each proxy appends its part, or a line
            values[name] += (part.strip() for part in value.decode("latin-1").split(","))
        for address in reversed(values[b"x-forwarded-for"]):
            if client := unmapped_address(address.strip("[]")):
                scope["client"] = (client, 0)
            if not is_in_networks(client, self._proxies):
                break
        # Of these only the last part, from our own proxy, counts: clients may have sent the others.
        scheme, prefix = values[b"x-forwarded-proto"][-1].lower(), values[b"x-forwarded-prefix"][-1]
        if scheme in ("http", "https"):
            scope["scheme"] = scheme
        if prefix.startswith("/"):
            scope["root_path"] = prefix.rstrip("/")
        if host := values[b"x-forwarded-host"][-1].encode("latin-1"):
            _set_host(scope, host)


class HostNames:
    """Refuses requests for foreign host names, such as those of a page whose DNS name was rebound to us."""

    def __init__(
        self, application: Application, allowed: tuple[str, ...] = (), own_names: Collection[str] = ()
    ) -> None:
        """`own_names` may grow while the server runs, since looking them up may take a while."""
        self._application, self._allowed, self._own_names = application, allowed, own_names
        self._accepted: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that names this server, or that no page's script can have sent."""
        if scope["raw_path"][:1] != b"/" and not _make_relative(scope):
            await answer_error(scope, send, 400, "bad_request", "The request's target is not a path.")
            return
        host = header(scope, b"host")
        if host is None and scope["http_version"] != "1.0":
            await answer_error(scope, send, 400, "bad_request", "The Host header is missing.")
            return
        # No script can set a header whose name begins with Sec-.
        if host is None or self._is_ours(host) or header(scope, b"sec-machines-client") is not None:
            await self._application(scope, receive, send)
        else:
            await answer_error(scope, send, 421, "misdirected_request", _not_ours(host))

    def _is_ours(self, host: bytes) -> bool:
        if host in self._accepted:
            return True
        name = host_name(host.decode("latin-1"))
        is_accepted = name is not None and is_allowed_host(name, self._own_names, self._allowed)
        if is_accepted and len(self._accepted) < _REMEMBERED_HOSTS:
            self._accepted.add(host)
        return is_accepted


class SameOrigin:
    """Refuses changes that another site's page makes a browser send."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests that only read, and those of programs and of our own pages.

        The scope's `is_foreign` says whether a page of another site sent it.
        """
        scope["is_foreign"] = _is_foreign(scope)
        if scope["method"] in SAFE_METHODS or not scope["is_foreign"]:
            await self._application(scope, receive, send)
        else:
            message = (
                "A page of another site sent this request; only pages of this server may change anything."
            )
            await answer_error(scope, send, 400, "bad_request", message)


def _set_host(scope: Scope, host: bytes) -> None:
    scope["headers"] = [*(pair for pair in scope["headers"] if pair[0] != b"host"), (b"host", host)]


def _make_relative(scope: Scope) -> bool:
    """Split a target in absolute form, whose host overrides the Host header (RFC 9112, 3.2.2)."""
    scheme, mark, rest = scope["raw_path"].partition(b"://")
    if not mark:
        return bool(scope["raw_path"] == b"*")
    host, _, path = rest.partition(b"/")
    _set_host(scope, host)
    scope["raw_path"] = b"/" + path
    scope["path"] = unquote_to_bytes(scope["raw_path"]).decode("utf-8", "replace")
    return scheme.lower() in (b"http", b"https")


def _is_foreign(scope: Scope) -> bool:
    """Return whether a browser says that a page of another origin sent it; programs send no such headers."""
    origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
    if origin is not None:
        return origin.partition(b"://")[2] != header(scope, b"host")
    return site not in (None, b"same-origin", b"none")


def _not_ours(host: bytes) -> str:
    name = host_name(host.decode("latin-1"))
    shown = f"the name {name}" if name else "that name"
    return f"This server does not answer to {shown}; its operator may list it in MACHINES_ALLOWED_HOSTS."
