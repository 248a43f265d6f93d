"""An Ollama that also does jobs: it answers /api/generate, /api/chat and /v1/chat/completions."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.bodies import ollama_body


@dataclass
class Job:
    """What was sent to an Ollama, and who held leases meanwhile."""

    path: str
    model: str
    prompt: str
    holders: list[str]


class FakeOllama:
    """Has one model in memory and gives the same `reply` to every job; a context manager."""

    def __init__(self, model: str, reply: str, holders: Callable[[], list[str]], **changes: Any) -> None:
        """`holders` is called while a job is done, and `changes` are those of the model in /api/ps."""
        self.model, self.reply = model, reply
        self.jobs: list[Job] = []
        loaded, fake = ollama_body(model, **changes), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(loaded)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if (reply := fake.replies().get(self.path)) is None:
                    return self.send_error(404)
                prompt = body.get("prompt") or body["messages"][-1]["content"]
                fake.jobs.append(Job(self.path, body["model"], prompt, holders()))
                return self._answer(json.dumps(reply).encode() + b"\n")

            def _answer(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self.port = self._http.server_port

    def replies(self) -> dict[str, dict[str, Any]]:
        """The answer of each path, of one line: the whole of a stream, too."""
        done = {
            "model": self.model,
            "created_at": "2026-11-23T17:00:00Z",
            "done": True,
            "done_reason": "stop",
        }
        message = {"role": "assistant", "content": self.reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        completion = {"id": "chat-1", "object": "chat.completion", "created": 1795453200, "model": self.model}
        return {
            "/api/generate": done | {"response": self.reply},
            "/api/chat": done | {"message": message},
            "/v1/chat/completions": completion | {"choices": [choice]},
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
