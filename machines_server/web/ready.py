"""Ready answers, sent from the event loop, since a thread and Flask take most of an answer's time."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf

from machines_server.contract.encoding import Body
from machines_server.web.messages import (
    JSON_TYPE,
    NO_SNIFF,
    Application,
    Receive,
    Scope,
    Send,
    accepts_gzip,
    answer,
)

_ALWAYS = ((b"cache-control", b"no-cache"), (b"vary", b"Accept-Encoding"), NO_SNIFF)


class ReadyAnswers:
    """Answers plain GET requests for some paths as the inner application would; passes on all others."""

    def __init__(
        self,
        application: Application,
        paths: tuple[str, ...],
        get_nowait: Callable[[str], Body | None],
        make: Callable[[str], Body],
    ) -> None:
        """`get_nowait` returns the body of a path if it is current, or None if it is not or it would block.

        `make` always returns the body and may take long, so it is called in a thread.
        """
        self._application = application
        thread = ThreadPoolExecutor(1, "ready")
        self._answers = {path: _ReadyAnswer(path, get_nowait, make, thread) for path in paths}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET without a query, with 304 if it sends exactly the current ETag."""
        ready = self._answers.get(scope["path"])
        if ready is None or scope["method"] != "GET" or scope["query_string"]:
            await self._application(scope, receive, send)
            return
        body = await ready.body(scope.get("received_at", inf))
        known = accepted = b""
        for name, value in scope["headers"]:
            if name == b"if-none-match":
                known = value
            elif name == b"accept-encoding":
                accepted = value
        etag = b'W/"%s"' % body.etag.encode()
        if known == etag:
            await answer(scope, send, 304, [(b"etag", etag), *_ALWAYS])
        elif b"," in known or known == b"*":
            await self._application(scope, receive, send)
        else:
            headers = [(b"content-type", JSON_TYPE.encode()), (b"etag", etag), *_ALWAYS]
            content = body.json
            if accepts_gzip(accepted):
                content = body.gzipped if body.is_gzipped else await ready.gzipped(body)
                headers.append((b"content-encoding", b"gzip"))
            headers.append((b"content-length", b"%d" % len(content)))
            await answer(scope, send, 200, headers, content)


class _ReadyAnswer:
    """The answer for one path; requests that arrived before a check began share it."""

    def __init__(
        self,
        path: str,
        get_nowait: Callable[[str], Body | None],
        make: Callable[[str], Body],
        thread: ThreadPoolExecutor,
    ) -> None:
        self._path, self._get_nowait, self._make, self._thread = path, get_nowait, make, thread
        self._checked_at = -inf
        self._checked: Body | None = None
        self._running: asyncio.Task[Body] | None = None
        self._next: asyncio.Task[Body] | None = None

    async def body(self, received_at: float) -> Body:
        """The current body, for a request whose headers arrived at `received_at` (monotonic)."""
        if received_at >= self._checked_at:
            self._checked_at, self._checked = time.monotonic(), self._get_nowait(self._path)
        return self._checked or await self._made()

    async def gzipped(self, body: Body) -> bytes:
        """Compress a body in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: body.gzipped)

    async def _made(self) -> Body:
        """Build the body, once for all requests that arrive before building begins."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._make_after(self._running))
        return await asyncio.shield(self._next)

    async def _make_after(self, before: asyncio.Task[Body] | None) -> Body:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._make, self._path)
