"""What is asked about leases: they are taken, renewed, listed and released, and refused."""

from collections.abc import Generator, Iterator
from typing import Any

from tests.fakes import wait_until
from tests.replay.asking import Answer, Ask, Headers, ask, get
from tests.replay.fleet import CLOUD, LLAMA, PHI, QWEN, settle
from tests.replay.recording import Subject
from tests.replay.scene import SETTLED_S, Scene

JSON_BODIES: tuple[Any, ...] = (
    *({}, [], "x", 1, None, {"model": 1}, {"model": ""}, {"model": None}, {"model": "x" * 513}),
    *({"model": LLAMA, "ttl_s": 0}, {"model": LLAMA, "ttl_s": 3601}, {"model": LLAMA, "ttl_s": "60"}),
    *({"model": LLAMA, "holder": "x" * 201}, {"model": LLAMA, "holder": 1}, {"model": LLAMA, "unknown": 1}),
    *({"model": LLAMA, "cold": "true"}, {"model": LLAMA, "min_free_vram_gb": "4"}),
    *({"model": LLAMA, "min_free_vram_gb": -1}, {"model": LLAMA, "min_context": 1.5}),
    *({"model": LLAMA, "tag": [1]}, {"model": LLAMA, "tag": ["a"] * 101}, {"model": LLAMA, "exclude": [1]}),
    *({"model": LLAMA, "where": {"a": [1]}}, {"model": LLAMA, "where": {"api_key": "x"}}),
    *({"model": LLAMA, "where": "nothing"}, {"model": LLAMA, "where": [["a", "b"]]}, {"modle": LLAMA}),
    *({"model": "a/b/c/d"}, {"model": "lama3.1:70b"}, {"model": LLAMA, "tag": "none"}),
)
BAD_RENEWALS: tuple[Any, ...] = ([], {"ttl_s": 0}, {"ttl_s": "5"}, {"ttl_s": None}, {"unknown": 1})
BYTES = (b"{", b"\xff", b"", b" ", b"model=x", b'{"model": NaN}', b'{"model": "a", "model": "b"}')


def leases(scene: Scene) -> Subject:
    """Everything about leases; none holds before and after."""
    held = _Held()
    yield get("/api/leases")
    yield from _refused()
    yield from held.take("first", {"model": LLAMA, "min_free_vram_gb": 4, "ttl_s": 600, "holder": "me"})
    yield from held.take(
        "second", {"model": LLAMA, "min_free_vram_gb": 4, "ttl_s": 700, "where": {"site": "warsaw"}}
    )
    yield get("/api/leases")
    yield get(f"/api/leases/{held.ids['first']}")
    yield get("/api/leases/none")
    yield get(f"/api/route?explain=true&model={LLAMA}")
    yield get(f"/api/route?explain=true&model={LLAMA}&min_free_vram_gb=16")
    yield get(f"/api/route?explain=true&model={LLAMA}&min_free_vram_gb=22")
    yield from held.take("third", {"model": LLAMA, "tag": "gpu", "exclude": ["Bravo"], "ttl_s": 800.5})
    yield from held.take("without a GPU", {"model": PHI, "ttl_s": 900})
    yield from held.take("in a cloud", {"model": CLOUD, "ttl_s": 1000, "min_context": 8192})
    yield from held.take("cold", {"model": QWEN, "cold": True, "ttl_s": 1100, "holder": "łódź"})
    yield get(f"/api/route?explain=true&model={QWEN}")
    yield from held.take("shared", {"model": QWEN, "cold": True, "ttl_s": 1200})
    yield get("/api/leases")
    yield ask("POST", "/api/leases", body={"model": QWEN, "cold": True, "min_free_vram_gb": 23.9})
    yield from _repeated(held)
    yield from _renewed(held)
    yield from _broken(scene, held)
    yield from held.release_all()
    yield get("/api/leases")
    yield get(f"/api/route?explain=true&model={LLAMA}")


def _refused() -> Iterator[Ask]:
    for body in JSON_BODIES:
        yield ask("POST", "/api/leases", body=body)
    for sent in BYTES:
        yield ask("POST", "/api/leases", body=sent)
    yield ask("POST", "/api/leases", {"Content-Type": "text/plain"}, b'{"model": "none"}')
    yield ask("POST", f"/api/leases?model={LLAMA}")
    for size in (2**16, 2**16 + 1, 2**20 + 1):
        yield ask("POST", "/api/leases", body=b'{"model": "none"}'.ljust(size))
    yield ask("POST", "/api/leases/none/renew", body=b" " * (2**16 + 1))
    for key in ("", "x" * 201):
        yield ask("POST", "/api/leases", {"Idempotency-Key": key}, {"model": LLAMA})
    for path in ("none", "%00", "x" * 300, "a%20b"):
        yield ask("POST", f"/api/leases/{path}/renew")
        yield ask("DELETE", f"/api/leases/{path}")
    for body in BAD_RENEWALS:
        yield ask("POST", "/api/leases/none/renew", body=body)


def _repeated(held: "_Held") -> Subject:
    key, body = {"Idempotency-Key": "once"}, {"model": LLAMA, "ttl_s": 1300}
    yield from held.take("with a key", body, key)
    yield ask("POST", "/api/leases", key, body)
    yield ask("POST", "/api/leases", key, {"ttl_s": 1300.0, "model": LLAMA})
    yield ask("POST", "/api/leases", key, body | {"min_free_vram_gb": 1})
    yield from held.release("with a key")
    yield from held.take("with a key again", body, key)


def _renewed(held: "_Held") -> Iterator[Ask]:
    path = f"/api/leases/{held.ids['first']}/renew"
    yield ask("POST", path)
    yield ask("POST", path, body={})
    yield ask("POST", path, body={"ttl_s": 650})
    for body in (*BAD_RENEWALS, {"ttl_s": True}, {"ttl_s": 4000}, b"{"):
        yield ask("POST", path, body=body)
    yield ask("HEAD", "/api/leases")


def _broken(scene: Scene, held: "_Held") -> Subject:
    """Their machine dies."""
    yield from held.take("on one that dies", {"model": "mixtral:8x7b", "ttl_s": 1400})
    scene.sidecars["sierra"].stop()
    scene.ollamas["sierra"].stop()
    scene.wait_for(sierra="offline")
    route = "/api/route?explain=true&model=mixtral:8x7b"
    wait_until(lambda: scene.server.get(route).status_code == 503, SETTLED_S)  # advice may lag
    path = f"/api/leases/{held.ids['on one that dies']}"
    yield ask("POST", f"{path}/renew", body={"ttl_s": 5})
    yield get("/api/leases")
    yield get("/api/machines/sierra")
    yield get(route)
    yield from held.release("on one that dies")
    yield ask("DELETE", path)
    yield ask("POST", f"{path}/renew")
    scene.sidecars["sierra"].start()
    scene.ollamas["sierra"].start()
    settle(scene)


class _Held:
    """The leases that hold, by a name of ours that stands for their id."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}

    def take(self, name: str, body: dict[str, Any], headers: Headers | None = None) -> Subject:
        answer = yield ask("POST", "/api/leases", headers, body, lease=name)
        self.ids[name] = answer.json["lease"]

    def release(self, name: str) -> Generator[Ask, Answer, None]:
        yield ask("DELETE", f"/api/leases/{self.ids.pop(name)}")

    def release_all(self) -> Subject:
        for name in list(self.ids):
            yield from self.release(name)
