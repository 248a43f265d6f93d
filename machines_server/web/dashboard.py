"""The dashboard: one HTML file for all its paths, and the scripts and styles that it loads."""

import gzip
import mimetypes
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

from flask import Blueprint, Response, abort, request

from machines_server.web.messages import PAGE_HEADERS

_TYPES = {
    ".json": "application/json",
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
}
_COMPRESSIBLE = ("text/", "image/svg+xml", "application/json")
_NO_DOCUMENTS = ("text/javascript", "text/css")
"""What no browser opens as a page, so that rules for pages would only make it larger."""
_INDEX, _INDEX_BELOW = "index.html", "index_below.html"
"""The page at the root of the site, and the one for paths a level below."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the dashboard; `gzipped` is None if it is not worth compressing."""

    content: bytes
    gzipped: bytes | None
    mimetype: str
    etag: str


def make_dashboard() -> Blueprint:
    """The routes of the dashboard."""
    page = Blueprint("dashboard", __name__)

    @page.get("/")
    @page.get("/models")
    @page.get("/events")
    @page.get("/compare")
    @page.get("/leases")
    def index() -> Response:
        return file_response(_files()[_INDEX])

    @page.get("/machines/<name>")
    def machine(name: str) -> Response:  # noqa: ARG001  the page's script reads it from the path
        return file_response(_files()[_INDEX_BELOW])

    @page.get("/static/<path:name>")
    def static(name: str) -> Response:
        file = _files().get(name)
        if file is None:
            abort(404)
        return file_response(file)

    return page


def file_response(file: PageFile) -> Response:
    """Send a file, compressed if the client accepts that, or 304 if it has it."""
    gzipped = file.gzipped if request.accept_encodings["gzip"] else None
    headers = None if file.mimetype in _NO_DOCUMENTS else PAGE_HEADERS
    response = Response(gzipped or file.content, mimetype=file.mimetype, headers=headers)
    if gzipped:
        response.content_encoding = "gzip"
    response.vary.add("Accept-Encoding")
    response.set_etag(file.etag, weak=True)  # compressed or not, it is the same file
    response.cache_control.no_cache = True
    response.make_conditional(request)
    return response


@cache
def _files() -> dict[str, PageFile]:
    """Every file, by its path below /static/."""
    by_path = dict(_read(files("machines_server.web") / "static", ""))
    # Links are relative, because a proxy may serve this site under any path.
    below = by_path[_INDEX].content.replace(b'="./', b'="../')
    return by_path | {_INDEX_BELOW: page_file(_INDEX_BELOW, below)}


def _read(folder: Traversable, prefix: str) -> list[tuple[str, PageFile]]:
    entries = []
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            entries += _read(entry, f"{name}/")
        else:
            entries.append((name, page_file(name, entry.read_bytes())))
    return entries


def page_file(name: str, content: bytes) -> PageFile:
    """A file with that name and content, ready to be sent."""
    suffix = f".{name.rpartition('.')[2]}"
    mimetype = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
    gzipped = gzip.compress(content, mtime=0) if mimetype.startswith(_COMPRESSIBLE) else None
    return PageFile(content, gzipped, mimetype, blake2b(content, digest_size=12).hexdigest())
