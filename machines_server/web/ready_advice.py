"""Advice that needs no new thought, sent from the event loop: a thread and Flask take most of its time."""

from collections.abc import Callable

from machines_server.contract.errors import whole_seconds
from machines_server.services.answer_cache import RouteReply
from machines_server.web.messages import JSON_TYPE, NO_SNIFF, Application, Receive, Scope, Send, answer

ROUTE = "/api/route"
_JSON_HEADER = (b"content-type", JSON_TYPE.encode())
_NO_STORE = (b"cache-control", b"no-store")


class ReadyAdvice:
    """Answers GET /api/route as the inner application would, where that takes no time; passes on all else."""

    def __init__(self, application: Application, get_nowait: Callable[[bytes], RouteReply | None]) -> None:
        """`get_nowait` returns the answer to a query, or None to leave it to the application."""
        self._application, self._get_nowait = application, get_nowait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        is_asked = scope["path"] == ROUTE and scope["method"] == "GET" and not scope.get("is_foreign")
        reply = self._get_nowait(scope["query_string"]) if is_asked else None
        if reply is None:
            await self._application(scope, receive, send)
            return
        headers = [_JSON_HEADER, (b"content-length", b"%d" % len(reply.json))]
        if reply.is_found:
            headers.append(_NO_STORE)
        elif reply.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % whole_seconds(reply.retry_after_s)))
        await answer(scope, send, 200 if reply.is_found else 503, [*headers, NO_SNIFF], reply.json)
