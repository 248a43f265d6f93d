"""Receives the bodies of requests, within a limit for each and for all together."""

from machines_server.web.messages import MAX_REQUEST_BYTES, Message, Receive, Scope, Send, answer_error

MAX_ALL_BODIES_BYTES = 2**26
"""The limit for all bodies being received, together."""
RETRY_AFTER_1_S = (b"retry-after", b"1")
_DISCARDED_BYTES = 2**23
"""How much of an oversized body is read: its sender reads the refusal only after sending."""


class Bodies:
    """The bodies that are held in memory."""

    def __init__(self) -> None:
        self._held_bytes = 0

    async def receive(self, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """The complete body, to be released; None if the client has disconnected or been refused."""
        length = int(next((value for name, value in scope["headers"] if name == b"content-length"), b"0"))
        chunks: list[bytes] = []
        size, is_full, more = 0, False, length <= _DISCARDED_BYTES
        while more and size <= _DISCARDED_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._held_bytes -= sum(map(len, chunks))
                return None
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            chunks.append(chunk)
            self._held_bytes += len(chunk)
            is_full |= self._held_bytes > MAX_ALL_BODIES_BYTES
            if is_full or max(size, length) > MAX_REQUEST_BYTES:
                self._held_bytes -= sum(map(len, chunks))
                chunks.clear()
        if max(size, length) > MAX_REQUEST_BYTES:
            too_large = f"The body is too large; at most {MAX_REQUEST_BYTES // 2**20} MiB are accepted."
            await answer_error(scope, send, 413, "request_entity_too_large", too_large)
            return None
        if is_full:
            await answer_error(
                scope,
                send,
                503,
                "busy",
                "Too many requests are being received; try again.",
                [RETRY_AFTER_1_S],
            )
            return None
        return b"".join(chunks)

    def release(self, body: bytes) -> None:
        """Note that a body is no longer held."""
        self._held_bytes -= len(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """Replay a body that has been read already, then pass on what comes after it."""
    is_left = True

    async def replay() -> Message:
        nonlocal is_left
        if is_left:
            is_left = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
