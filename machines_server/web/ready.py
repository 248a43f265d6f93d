"""Answers that are ready, given before Flask is asked, which takes longer than all else of an answer."""

from collections.abc import Callable, Iterable, Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from machines_server.bodies import Body
from machines_server.web.errors import JSON

NO_GUESS = ("X-Content-Type-Options", "nosniff")


class ReadyAnswers:
    """WSGI around an application: to plain questions for these paths it says what that would answer.

    What guards the paths must stand around this, too: the application does not see these questions.
    """

    def __init__(self, application: WSGIApplication, bodies: Mapping[str, Callable[[], Body]]) -> None:
        self._application, self._bodies = application, bodies

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """A GET without a query; whoever sends back an ETag gets a 304 if it is the very same."""
        find = self._bodies.get(environ["PATH_INFO"])
        if find is None or environ["REQUEST_METHOD"] != "GET" or environ.get("QUERY_STRING"):
            return self._application(environ, start_response)
        body = find()
        etag = f'W/"{body.etag}"'
        known = environ.get("HTTP_IF_NONE_MATCH", "")
        headers = [("ETag", etag), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding"), NO_GUESS]
        if known == etag:
            start_response("304 NOT MODIFIED", headers)
            return []
        if "," not in known and known != "*":  # none, or that of an older answer
            content = body.json
            if _reads_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")):
                content = body.packed
                headers.append(("Content-Encoding", "gzip"))
            size = str(len(content))
            start_response("200 OK", [("Content-Type", JSON), ("Content-Length", size), *headers])
            return [content]
        return self._application(environ, start_response)


def _reads_gzip(accepted: str) -> bool:
    """Whether a client takes gzip; one that weighs encodings against each other gets the plain bytes."""
    return any(one.strip() == "gzip" for one in accepted.split(","))
