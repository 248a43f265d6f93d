"""The page that people look at: one HTML file for all its paths, and the scripts and styles it loads."""

import gzip
import mimetypes
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

from flask import Blueprint, Response, abort, request

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_PACKED = ("text/", "image/svg+xml")


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent, and the same compressed where that makes it smaller."""

    content: bytes
    packed: bytes | None
    mimetype: str
    etag: str


def make_dashboard() -> Blueprint:
    """The routes of the page; what machines are called is the page's business alone."""
    page = Blueprint("dashboard", __name__)

    @page.get("/")
    @page.get("/models")
    @page.get("/events")
    @page.get("/machines/<name>")
    def index(name: str = "") -> Response:  # noqa: ARG001  the script reads it from the path
        return _sent(_files()["index.html"])

    @page.get("/static/<path:name>")
    def static(name: str) -> Response:
        file = _files().get(name)
        if file is None:
            abort(404)
        return _sent(file)

    return page


def _sent(file: _File) -> Response:
    packed = file.packed if request.accept_encodings["gzip"] else None
    response = Response(packed or file.content, mimetype=file.mimetype, headers=_HEADERS)
    if packed:
        response.content_encoding = "gzip"
    response.vary.add("Accept-Encoding")
    response.set_etag(file.etag, weak=True)  # packed or not, it is the same file
    response.cache_control.no_cache = True
    response.make_conditional(request)
    return response


@cache
def _files() -> dict[str, _File]:
    """All of them, by their path below /static/."""
    return dict(_read(files("machines_server.web") / "static", ""))


def _read(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found = []
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            found += _read(entry, f"{name}/")
        else:
            found.append((name, _file(name, entry.read_bytes())))
    return found


def _file(name: str, content: bytes) -> _File:
    suffix = f".{name.rpartition('.')[2]}"
    mimetype = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
    packed = gzip.compress(content, mtime=0) if mimetype.startswith(_PACKED) else None
    return _File(content, packed, mimetype, blake2b(content, digest_size=12).hexdigest())
