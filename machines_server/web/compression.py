"""Compressing answers for clients that accept it."""

import gzip

from flask import Response, request

from machines_server.web.messages import accepts_gzip

MIN_BYTES = 1400
"""A smaller answer fits into one packet as it is."""
_LEVEL = 5


def compressed(response: Response) -> Response:
    """Compress a complete response if that is worth it and the client accepts it."""
    content = response.get_data()
    accepted = request.headers.get("Accept-Encoding", "").encode()
    if request.method == "GET" and len(content) >= MIN_BYTES and accepts_gzip(accepted):
        response.set_data(gzip.compress(content, _LEVEL))
        response.content_encoding = "gzip"
        response.vary.add("Accept-Encoding")
    return response
