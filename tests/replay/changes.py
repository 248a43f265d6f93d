"""What is asked while machines come, change and go, and while nobody polls."""

from tests.fakes import wait_until
from tests.replay.asking import ask, get
from tests.replay.fleet import LLAMA, QWEN, STATUSES
from tests.replay.recording import Subject
from tests.replay.scene import SETTLED_S, Scene


def changes(scene: Scene) -> Subject:
    """Machines that come, change and go while somebody asks."""
    file = scene.declared("oscar")
    scene.declare("oscar", file | {"site": "krakow", "more": [1, {"a": None}]})
    yield get("/api/machines/oscar")
    yield get("/api/machines/oscar/file")
    scene.wait_for_events("oscar", "machine_changed")
    yield get("/api/events?machine=oscar")
    scene.server.write("oscar.yaml", "name: [")
    yield get("/api/machines/oscar")
    yield get("/api/machines/oscar/file")
    yield get("/api/machines")
    (scene.server.machines / "oscar.yaml").unlink()
    yield get("/api/machines/oscar")
    yield get("/api/machines/oscar/file")
    scene.wait_for_events("oscar", "machine_removed")
    yield get("/api/events?machine=oscar")
    yield get("/api/machines/oscar/history?metric=cpu_percent&from=-1h")
    yield get("/api/machines/oscar/availability?from=-1h")
    scene.sidecars["lima"].stop()
    scene.wait_for(lima="degraded")
    yield get("/api/machines/lima")
    scene.ollamas["lima"].stop()
    scene.wait_for(lima="offline")
    yield get("/api/machines/lima")
    scene.wait_for_events("lima", "offline", "degraded")
    yield get("/api/events?machine=lima")
    codellama, scene.ollamas["november"].answer = scene.ollamas["november"].answer, None
    wait_until(lambda: scene.server.fleet()["november"]["ollama"]["state"] == "busy", SETTLED_S)
    yield get("/api/machines/november")
    yield get("/api/route?explain=true&model=codellama:34b")
    scene.sidecars["lima"].start()
    scene.ollamas["lima"].start()
    scene.wait_for(lima="online")
    yield get("/api/machines/lima")
    scene.wait_for_events("lima", "online", "offline", "degraded")
    yield get("/api/events?machine=lima")
    scene.ollamas["november"].answer = codellama
    scene.declare("oscar", file)


def stalled(scene: Scene) -> Subject:
    """Nobody polls any more: nothing that changes is known."""
    with scene.frozen_poller():
        file = scene.declared("romeo")
        scene.declare("zulu", file | {"name": "zulu"})
        yield get("/api/machines/zulu")
        scene.wait_for(**dict.fromkeys(STATUSES, "unknown"))
        known = (yield ask("HEAD", "/api/infrastructure")).header("etag")
        scene.masks.name(known.removeprefix("W/").strip('"'), "known")
        yield get("/api/infrastructure", {"If-None-Match": known})
        yield get("/api/infrastructure?unknown=1", {"If-None-Match": known})
        yield get("/api/machines/alpha")
        yield get("/health")
        yield get("/health/ready")
        yield ask("HEAD", "/health/ready")
        yield get(f"/api/route?explain=true&model={LLAMA}")
        yield get(f"/api/route?explain=true&model={QWEN}&cold=true")
        yield ask("POST", "/api/leases", body={"model": LLAMA})
        yield get("/api/models")
        (scene.server.machines / "zulu.yaml").unlink()
