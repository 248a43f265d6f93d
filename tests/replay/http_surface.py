"""The page, each method on each path, and who may ask at all."""

from collections.abc import Iterator

from tests.replay.asking import Ask, ask, get
from tests.replay.fleet import LLAMA
from tests.replay.recording import Subject
from tests.replay.scene import Scene

GZIP = {"Accept-Encoding": "gzip"}
PLAIN = (
    *("/", "/models", "/events", "/machines/alpha", "/machines/nobody", "/static/app.js"),
    *("/api/machines", "/api/infrastructure", "/api/machines/alpha", "/api/machines/alpha/file"),
    *("/api/machines/alpha/history", "/api/machines/alpha/availability", "/api/events", "/api/models"),
    *("/api/history?machine=alpha&metric=up", "/api/availability"),
    *(f"/api/route?explain=true&model={LLAMA}", "/api/leases", "/api/system", "/health", "/health/ready"),
)
"""Every path that answers a GET."""
NO_PATHS = (
    *(
        "/nothing",
        "/api",
        "/api/",
        "/api/nothing",
        "/api/machines/",
        "/api/machines/alpha/",
        "//",
        "//health",
    ),
    *("/health/", "/health/live", "/api/machines/alpha/nothing", "/static/", "/static/nothing.js"),
    *("/static/../app.py", "/static/%2e%2e/app.py", "/api/leases/", "/api/leases/x/nothing", "/models/x"),
    *(
        "/robots.txt",
        "/favicon.ico",
        "/metrics",
        "/mcp",
        "/%00",
        "/%ff",
        "/api/machines/%2F",
    ),
)


def page(scene: Scene) -> Subject:
    """The page: which files there are, and what headers they have."""
    for path in (
        "/",
        "/models",
        "/events",
        "/machines/alpha",
        "/machines/no-such-machine",
        "/machines/%3Cb%3E",
    ):
        known = (yield get(path)).header("etag")
        scene.masks.name(known.removeprefix("W/").strip('"'), "known")
        yield get(path, GZIP)
        yield get(path, {"If-None-Match": known})
        yield ask("HEAD", path)
    names = ("app.js", "style.css", "icon.svg", "index.html", "vendor/uPlot.iife.min.js", "vendor/SHA256SUMS")
    for name in (*names, "index_below.html", "vendor", "vendor/", "nothing.css"):
        yield get(f"/static/{name}")
        yield get(f"/static/{name}", GZIP)


def methods(_: Scene) -> Subject:
    """Each method on each path."""
    for path in PLAIN:
        for method in ("HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
            if (method, path) != ("POST", "/api/leases"):
                yield ask(method, path)
    for path in ("/api/leases/none", "/api/leases/none/renew"):
        for method in ("GET", "HEAD", "OPTIONS", "PUT"):
            yield ask(method, path)
    for method in ("BREW", "get", "TRACE"):
        yield ask(method, "/health")
    for path in NO_PATHS:
        yield get(path)
    yield ask("POST", "/nothing", body={})
    yield ask("POST", "/health", body=b"x" * (2**20 + 1))
    yield ask("PUT", "/nothing", body=b"x" * (2**20 + 1))


def guard(scene: Scene) -> Subject:
    """Names that are not ours, pages of others, proxies, and bytes that are no request."""
    port = scene.server.url.rpartition(":")[2]
    for host in (
        *("127.0.0.1", "localhost", "localhost:1", "[::1]", "box", "box.lan", "x.local", "a.internal"),
        *("nas.home.arpa", "listed.example.com", "LISTED.example.com", "a.example.org", "example.org"),
        *("rebound.example", "evil.com:3038", "a.listed.example.com", "10.0.0.1", "a b", "<script>", ""),
        *(
            "127.0.0.1.nip.io",
            "x" * 300,
            "xn--e1afmkfd.example",
            "host.",
            "listed.example.com.",
            "-",
            ".",
            "a..b",
        ),
    ):
        yield get("/api/machines/hotel", {"Host": host})
    for path in ("/", "/api/infrastructure", "/static/app.js", "/nothing", "/health", "/api/leases"):
        yield get(path, {"Host": "evil.com"})
    yield ask("OPTIONS", "/api/leases", {"Host": "evil.com"})
    yield ask("POST", "/api/leases", {"Host": "evil.com"}, {"model": LLAMA})
    yield get("/health", {"Host": "evil.com", "Sec-Machines-Client": "x/1"})
    yield get("/health", {"Host": None})
    for header in (
        *(("Origin", "http://elsewhere.example"), ("Origin", "null"), ("Origin", "http://127.0.0.1:9")),
        *(("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-site"), ("Origin", "http://[localhost")),
    ):
        yield ask("POST", "/api/leases", dict([header]), {"model": "none"})
        yield ask("DELETE", "/api/leases/none", dict([header]))
        yield ask("OPTIONS", "/api/leases", dict([header]))
        yield get("/api/machines/hotel", dict([header]))
    for headers in (
        {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        yield ask("POST", "/api/leases", headers, {"model": "none"})
    yield from _proxies()
    for line in ("GET /health HTTP/1.1", "GET /health HTTP/1.0", "nonsense", "GET /health HTTP/3.0", "GET"):
        yield Ask("GET", "/", raw=f"{line}\r\n\r\n".encode())
    for target in (
        "http://evil.com/health",
        "http://127.0.0.1/health",
        "ftp://127.0.0.1/health",
        "health",
        "*",
    ):
        lines = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        yield Ask("GET", "/", raw=lines.encode())
    host = "Host: 127.0.0.1\r\n"
    for head in (
        f"GET /health HTTP/1.1\r\n{host}Host: evil.com\r\n\r\n",
        f"GET /health HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        f"POST /api/leases HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n",
        f"POST /api/leases HTTP/1.1\r\n{host}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
        f"POST /api/leases HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n",
        f"GET /health HTTP/1.1\r\n{host}Bad Header: x\r\n\r\n",
    ):
        yield Ask("GET", "/", raw=head.encode())
    yield Ask("GET", "a long target", raw=f"GET /{'x' * 70_000} HTTP/1.1\r\n{host}\r\n".encode())
    yield Ask("GET", "a long header", raw=f"GET / HTTP/1.1\r\n{host}X: {'x' * 70_000}\r\n\r\n".encode())
    many = "X: y\r\n" * 500
    yield Ask("GET", "many headers", raw=f"GET / HTTP/1.1\r\n{host}{many}\r\n".encode())


def _proxies() -> Iterator[Ask]:
    said: dict[str, str | None] = {
        "X-Forwarded-Host": "evil.com",
        "X-Forwarded-Prefix": "/fleet",
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "https",
    }
    for source in ("127.0.0.1", "127.0.0.7"):
        yield ask("GET", "/health", said, source=source)
        yield ask("GET", "/", said | {"X-Forwarded-Host": "listed.example.com"}, source=source)
        yield ask("GET", "/", said | {"X-Forwarded-Host": "a.example.org, evil.com"}, source=source)
        origin = {"X-Forwarded-Host": "listed.example.com", "Origin": "https://listed.example.com"}
        yield ask("POST", "/api/leases", origin, {"model": "none"}, source=source)
