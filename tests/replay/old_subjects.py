"""What is asked of a server on an old data folder: its past, and what it makes of it now."""

from tests.replay.asking import ask, get
from tests.replay.fleet import LLAMA, PHI, QWEN
from tests.replay.old_data import DAY_S, OldData
from tests.replay.recording import Subject

HOUR_S = 3600
NAMES = ("veteran", "quiet", "flaky", "lone", "idle", "gone")


def old_past(old: OldData) -> Subject:
    """What it knows of the past, while nobody polls."""
    yield get("/api/infrastructure")
    yield get("/api/machines")
    for name in ("quiet", "gone", "lone"):
        yield get(f"/api/machines/{name}")
        yield get(f"/api/machines/{name}/file")
    left = old.at(0)
    yield get(f"/api/models?from={old.at(-6 * HOUR_S)}&to={left}")
    yield get(f"/api/models?from={old.at(-30 * DAY_S)}&to={old.at(-2 * HOUR_S - 60)}")
    yield get(f"/api/models?from={old.at(-500 * DAY_S)}&to={left}")
    yield from _events(old)
    yield from _series(old)
    for name in NAMES:
        for from_s, to_s in ((-6 * HOUR_S, 0), (-500 * DAY_S, 0), (-4 * HOUR_S, -3 * HOUR_S)):
            yield get(f"/api/machines/{name}/availability?from={old.at(from_s)}&to={old.at(to_s)}")
    for from_s, to_s in ((-6 * HOUR_S, 0), (-500 * DAY_S, 0), (-4 * HOUR_S, -3 * HOUR_S)):
        yield get(f"/api/availability?from={old.at(from_s)}&to={old.at(to_s)}")
    several = f"machine=flaky,gone&metric=up,cpu_percent&from={old.at(-6 * HOUR_S)}&to={old.at(0)}"
    yield get(f"/api/history?{several}&step=3600")
    yield get(f"/api/history?{several}&step=7200&format=csv")
    yield from _leases()
    yield get("/health")
    yield get("/health/ready")
    yield from _without_databases(old)


def _without_databases(old: OldData) -> Subject:
    for file in old.server.data.glob("*.db*"):
        file.rename(file.with_suffix(f"{file.suffix}.away"))
    for name in ("coordination", "telemetry"):
        (old.server.data / f"{name}.db").mkdir()
    for path in (
        "events",
        "models",
        "machines/veteran/history",
        "machines/veteran/availability",
        "leases",
        "history",
        "availability",
        "leases/x",
    ):
        yield get(f"/api/{path}")
    yield get("/api/machines/veteran")
    yield ask("POST", "/api/leases", body={"model": LLAMA})
    yield ask("DELETE", "/api/leases/none")
    yield get(f"/api/route?explain=true&model={LLAMA}")
    yield get("/health")
    yield get("/health/ready")


def _events(old: OldData) -> Subject:
    left = old.at(0)
    newest = (yield get(f"/api/events?to={left}&limit=5")).json["events"]
    yield get(f"/api/events?to={left}&limit=100")
    for name in NAMES:
        yield get(f"/api/events?machine={name}&to={left}")
    for query in (
        "type=offline,unknown",
        "type=host_rebooted,host_changed&machine=VETERAN",
        "after=0&limit=3",
        "after=10&limit=100",
        f"after={newest[-1]['id']}",
        f"after={newest[0]['id']}",
        f"before={newest[0]['id']}&limit=2",
        f"before={newest[-1]['id']}",
        "before=10&limit=100",
        "machine=flaky,QUIET&machine=lone&type=offline&type=online&limit=3",
        f"from={old.at(-4 * HOUR_S)}&type=model_loaded,model_unloaded",
    ):
        yield get(f"/api/events?{query}&to={left}")
    yield get(f"/api/events?from={old.at(-30 * DAY_S)}&to={old.at(-10 * DAY_S)}")


def _series(old: OldData) -> Subject:
    everything = (
        "cpu_percent,load_1m,ram_used_gb,ram_available_gb,disk_used_gb,disk_available_gb,uptime_s,up,poll_s"
    )
    recent = f"from={old.at(-6 * HOUR_S)}&to={old.at(0)}"
    for name in NAMES:
        metrics = everything if name in ("veteran", "idle") else "cpu_percent,up"
        yield get(f"/api/machines/{name}/history?metric={metrics}&{recent}&step=3600")
    yield get(f"/api/machines/veteran/history?metric=cpu_percent,vram_used_gb,power_w&{recent}")
    yield get(
        f"/api/machines/veteran/history?metric=vram_free_gb,utilisation,temperature_c&gpu=1&{recent}&step=600"
    )
    yield get(f"/api/machines/veteran/history?metric=vram_free_gb&gpu=GPU-old-1&{recent}&step=60")
    for step in ("1", "8", "60", "90", "600", "900", "3600", "7200", "86400"):
        yield get(f"/api/machines/flaky/history?metric=cpu_percent,up&{recent}&step={step}")
    for days in (-3, -20, -30, -400):
        long = f"from={old.at(days * DAY_S - HOUR_S)}&to={old.at(-HOUR_S)}"
        yield get(f"/api/machines/veteran/history?metric=cpu_percent,vram_used_gb,up&{long}")
        yield get(f"/api/machines/quiet/history?metric=cpu_percent,up&{long}&step=86400")
    yield get(
        f"/api/machines/lone/history?from={old.at(-20 * DAY_S)}&to={old.at(-19 * DAY_S)}&step=60&metric=up"
    )
    yield get(f"/api/machines/veteran/history?metric=cpu_percent,vram_used_gb&{recent}&step=1800&format=csv")
    yield get(f"/api/machines/lone/history?metric=up,cpu_percent&{recent}&step=3600&format=csv")


def _leases() -> Subject:
    held = (yield get("/api/leases")).json["leases"]
    for lease in held:
        yield ask("POST", f"/api/leases/{lease['lease']}/renew")
    yield ask("POST", "/api/leases", {"Idempotency-Key": "once"}, {"model": PHI})
    yield ask("DELETE", f"/api/leases/{held[0]['lease']}")
    yield get("/api/leases")
    yield get(f"/api/route?explain=true&model={LLAMA}")
    yield get(f"/api/route?explain=true&model={QWEN}&cold=true")


def old_polled(old: OldData) -> Subject:
    """What it makes of it once its hosts, of which some have died meanwhile, are polled."""
    left, midnight = old.at(0), old.at(-12 * HOUR_S)
    for name in NAMES:
        yield get(f"/api/machines/{name}")
        yield get(f"/api/events?machine={name}&limit=6")
        yield get(f"/api/machines/{name}/availability?from={old.at(-6 * HOUR_S)}&to={left}")
    yield get(f"/api/models?from={old.at(-6 * HOUR_S)}&to={left}")
    metrics = f"metric=cpu_percent,up,vram_used_gb&from={old.at(-6 * HOUR_S)}&to={left}&step=3600"
    yield get(f"/api/machines/veteran/history?{metrics}")
    yield get(f"/api/machines/veteran/history?metric=up&from={old.at(-500 * DAY_S)}&to={midnight}&step=86400")
    yield get(f"/api/route?explain=true&model={LLAMA}&cold=true")
    yield get(f"/api/route?explain=true&model={QWEN}")
    yield get(f"/api/route?explain=true&model={QWEN}&cold=true&exclude=veteran")
    yield ask("POST", "/api/leases", body={"model": QWEN, "holder": "greedy"})
    yield ask("POST", "/api/leases", body={"model": QWEN, "holder": "modest", "ttl_s": 600}, lease="modest")
    yield ask("POST", "/api/leases", {"Idempotency-Key": "once"}, {"model": QWEN})
    yield get("/api/events?limit=10000&after=0&type=machine_added,host_changed,machine_removed")
    yield get("/api/machines/veteran/availability?from=0")
