"""Hosts that hold one model and serve one request at a time, as small real servers."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOAD_S, SERVE_S = 3.0, 0.1
GIB = 2**30
CARD_GIB, MODEL_GIB = 24, 20


class Host:
    """One machine: an Ollama that loads a model on request, and its sidecar."""

    def __init__(self, name: str, models: Sequence[str]) -> None:
        self.name, self._models = name, models
        self._turn = threading.Lock()
        self._held: str | None = None
        self.loads = 0
        self._servers = [_server(self.answer_ollama), _server(self.answer_sidecar)]

    @property
    def ports(self) -> tuple[int, int]:
        """The ports of the Ollama and of the sidecar."""
        ollama, sidecar = (server.server_address[1] for server in self._servers)
        return int(ollama), int(sidecar)

    def unload(self) -> None:
        """Forget the model and the count of loads."""
        self._held, self.loads = None, 0

    def stop(self) -> None:
        """Refuse connections from now on."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def generate(self, model: str) -> None:
        """Serve one request, after earlier ones."""
        with self._turn:
            if self._held != model:
                self._held = None
                time.sleep(LOAD_S)
                self._held, self.loads = model, self.loads + 1
            time.sleep(SERVE_S)

    def answer_ollama(self, path: str, body: Any) -> object:
        """What the Ollama answers."""
        if path == "/api/generate":
            self.generate(body["model"])
            return {"model": body["model"], "response": "done", "done": True}
        if path == "/api/tags":
            return {"models": [_stored(model) for model in self._models]}
        held = self._held
        return {"models": [_loaded(held)] if held else []}

    def answer_sidecar(self, _path: str, _body: Any) -> object:
        """What the sidecar answers."""
        used = MODEL_GIB * GIB if self._held else 0
        card = {"index": 0, "uuid": f"GPU-{self.name}", "model": "24GB consumer GPU", "utilisation": 0}
        vram = {"vram_total_bytes": CARD_GIB * GIB, "vram_used_bytes": used}
        gpu = card | vram | {"vram_free_bytes": CARD_GIB * GIB - used, "memory_kind": "dedicated"}
        ram = {"ram_total_bytes": 64 * GIB, "ram_used_bytes": 4 * GIB, "ram_available_bytes": 60 * GIB}
        return {"version": 1, "hostname": self.name, "cpu_percent": 1.0, "gpu": [gpu]} | ram

    def file(self) -> str:
        """The machine file."""
        ollama, sidecar = self.ports
        models = "".join(f"\n  - {model}" for model in self._models)
        network = f"{{hostname: 127.0.0.1, port: {ollama}, sidecar_port: {sidecar}}}"
        return f"name: {self.name}\nrole: gpu-host\nhardware: {{}}\nnetwork: {network}\nmodels:{models}\n"


@contextmanager
def hosts(count: int, models: Sequence[str], folder: Path) -> Iterator[list[Host]]:
    """Run that many hosts, and write their machine files into the folder."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        made = [Host(f"m{number}", models) for number in range(count)]
        for host in made:
            stack.callback(host.stop)
            (folder / f"{host.name}.yaml").write_text(host.file())
        yield made


def _digest(model: str) -> str:
    return "".join(f"{ord(letter):02x}" for letter in (model * 32)[:32])


def _stored(model: str) -> dict[str, object]:
    return {"name": model, "model": model, "digest": _digest(model), "size": MODEL_GIB * GIB * 9 // 10}


def _loaded(model: str) -> dict[str, object]:
    size = MODEL_GIB * GIB
    return _stored(model) | {
        "size": size,
        "size_vram": size,
        "context_length": 4096,
        "expires_at": "2318-03-05T00:00:00Z",
    }


def _server(answer: Any) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = json.dumps(answer(self.path, json.loads(body) if body else None)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815  the name that http.server calls

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
