"""What is asked of the whole fleet, by subject; each leaves the fleet as it found it."""

from collections.abc import Callable, Iterator
from urllib.parse import quote

from tests.replay.asking import Ask, ask, get
from tests.replay.changes import changes, stalled
from tests.replay.fleet import CLOUD, LLAMA, PHI, QWEN, STATUSES
from tests.replay.http_surface import GZIP, guard, methods, page
from tests.replay.leases import leases
from tests.replay.recording import Subject
from tests.replay.scene import Scene


def present(_: Scene) -> Subject:
    """What every machine is and does now."""
    yield get("/api/infrastructure")
    yield get("/api/infrastructure?unknown=1&unknown=2")
    yield get("/api/infrastructure", GZIP)
    yield ask("HEAD", "/api/infrastructure")
    for name in (
        "alpha",
        "hotel",
        "kilo",
        "odd",
        "romeo",
        "uniform",
        "ALPHA",
        "Norway",
        "nobody",
        "a%20b",
        "%3Cscript%3E",
        "%E6%9D%B1",
        "x" * 300,
    ):
        yield get(f"/api/machines/{name}")
    yield get("/api/machines/alpha?unknown=1", GZIP)
    yield get("/api/models")
    yield get("/api/models?from=-1h&to=now")
    yield get("/api/system")
    yield get("/health")
    yield get("/health/ready")


def files(scene: Scene) -> Subject:
    """The machine files, as they are declared, and what is wrong with them."""
    known = (yield get("/api/machines")).header("etag")
    scene.masks.name(known.removeprefix("W/").strip('"'), "known")
    yield get("/api/machines?unknown=1")
    yield get("/api/machines", GZIP)
    for one in (known, known.removeprefix("W/"), f'"other", {known}', "*", '"other"', "nonsense", ""):
        yield get("/api/machines", {"If-None-Match": one})
        yield get("/api/machines?unknown=1", {"If-None-Match": one})
    yield ask("HEAD", "/api/machines", {"If-None-Match": known})
    yield get("/api/machines", {"If-None-Match": known} | GZIP)
    for accepted in ("gzip;q=0", "gzip, deflate", "br", "*", "identity", "gzip;q=0.5, identity"):
        yield get("/api/machines", {"Accept-Encoding": accepted})
        yield get("/api/machines?unknown=1", {"Accept-Encoding": accepted})
    for name in ("alpha", "odd", "norway", "romeo", "ODD", "nobody", "missing", "bad-types"):
        yield get(f"/api/machines/{name}/file")
    yield ask("HEAD", "/api/machines/odd/file")


def past(_: Scene) -> Subject:
    """What happened since the server was started, and questions of the past that cannot be answered."""
    for name in STATUSES:
        yield get(f"/api/events?machine={name}")
    yield get("/api/events?machine=ALPHA&type=online,model_loaded&from=-1h&to=now")
    yield get("/api/events?limit=1&type=machine_changed")
    yield get("/api/events?type=machine_removed,,offline&machine=alpha&after=")
    yield get("/api/events?from=now&to=-1h")
    for query in (
        *("type=crashed", "limit=0", "limit=none", "limit=10001", "after=x", "after=-1", "machine=nobody"),
        *("machine=alpha,nobody", "machine=alpa", "before=x", "after=1&before=2", "name=alpha"),
        *("limit=1&limit=2", "from=yesterday", "to=2026-13-01T00:00:00Z", "type=service_crashed"),
    ):
        yield get(f"/api/events?{query}")
    for metric in (
        "cpu_percent,ram_used_gb,load_1m,disk_available_gb,uptime_s",
        "up",
        "vram_used_gb,power_w",
    ):
        yield get(f"/api/machines/alpha/history?metric={metric}&from=-1h")
    yield get(
        "/api/machines/alpha/history?metric=vram_free_gb,temperature_c,utilisation&gpu=1&from=-90s&step=60"
    )
    yield get("/api/machines/alpha/history?metric=vram_total_gb&gpu=GPU-alpha-0&from=-1h&format=json")
    yield get("/api/machines/lima/history?metric=utilisation,vram_used_gb,cpu_percent&from=-1h")
    yield get("/api/machines/echo/history?metric=up,cpu_percent&from=-1h")
    yield get("/api/machines/ALPHA/history?metric=up&from=-1h&format=csv")
    yield get("/api/machines/golf/history?format=csv")
    for query in (
        *("metric=cpu", "metric=cpu_percent,", "from=yesterday", "from=now&to=-1h", "step=0", "step=1.5"),
        *("step=-60", "step=1&from=-47h", "step=10&from=-7d", "step=60&from=-300d", "step=31536001"),
        *(
            "to=9999-06-30T00:00:00Z",
            "gpu=3",
            "gpu=x",
            "format=xml",
            "form=-1h",
            "metric=up&metric=cpu_percent&from=-1h",
        ),
        *("step=1&from=-4h&metric=up", f"step=1{'0' * 30}", "from=2026-02-30T00:00:00Z", "from=1e400"),
    ):
        yield get(f"/api/machines/alpha/history?{query}")
    for path in (
        "availability",
        "availability?from=-1h",
        "availability?step=60",
        "availability?from=now&to=-1h",
    ):
        yield get(f"/api/machines/alpha/{path}")
    yield get("/api/machines/nobody/history")
    yield get("/api/machines/nobody/availability")
    yield from past_of_several()
    yield get("/api/models?model=x")
    yield get("/api/models?from=x")


def past_of_several() -> Iterator[Ask]:
    """The same questions about several machines at once."""
    yield get("/api/events?machine=echo&machine=HOTEL,lima&type=online&type=degraded,offline&from=-1h")
    yield get("/api/events?machine=alpha&before=0")
    yield get("/api/events?machine=alpha&type=online&limit=1&after=0")
    for query in (
        "machine=alpha,lima&metric=utilisation&from=-1h",
        "machine=golf&machine=ALPHA&machine=golf&metric=up&from=-1h&format=csv",
        "machine=alpha,lima&metric=power_w&gpu=1&from=-1h",
        "machine=echo&metric=up,,&metric=&metric=cpu_percent&from=-1h&step=3600",
    ):
        yield get(f"/api/history?{query}")
    for query in (
        *("machine=nobody", "machine=alpha,alpa", "machine=alpha&gpu=7", "machine=alpha&metric=cpu"),
        *("metric=up&from=-1h&step=1", "name=alpha", "format=xml", "from=now&to=-1h"),
    ):
        yield get(f"/api/history?{query}")
    for query in ("machine=alpha", "from=now&to=-1h", "from=yesterday"):
        yield get(f"/api/availability?{query}")


def advice(_: Scene) -> Subject:
    """Questions about where to send work."""
    for model in (
        *(LLAMA, "LLAMA3.1:70b", "nomic-embed-text", "nomic-embed-text:latest", PHI, QWEN, CLOUD, "phi3"),
        *("qwen2.5:7b", "mixtral:8x7b", "codellama:34b", "mine", "shared:1b", "other:1b", "not-pulled:1b"),
        *(
            "deepseek-r1:671b",
            "llama3.1:8b",
            "ollama/llama3.1:70b",
            "lama3.1:70b",
            "llama3.1",
            "nothing-like-it",
        ),
        *(
            "a/b/c/d",
            "m:",
            "registry.ollama.ai/library/llama3.1:70b",
            "x" * 512,
            "x" * 513,
            "東京",
            "a b",
            "<b>",
        ),
    ):
        yield get(f"/api/route?explain=true&model={quote(model)}")
    for model in (
        *(LLAMA, QWEN, PHI, CLOUD, "deepseek-r1:671b", "not-pulled:1b", "codellama:34b", "llama3.1:8b"),
        *("nothing-like-it", "lama3.1:70b", "mine"),
    ):
        yield get(f"/api/route?explain=true&model={quote(model)}&cold=true")
    for query in (
        *("min_free_vram_gb=4", "min_free_vram_gb=20", "min_free_vram_gb=23.5", "min_free_vram_gb=1000"),
        *(
            "min_context=4096",
            "min_context=8192",
            "min_context=100000",
            "role=gpu-host",
            "role=none",
            "role=",
        ),
        *(
            "tag=gpu",
            "tag=primary&tag=gpu",
            "tag=none",
            "tag=",
            "exclude=alpha",
            "exclude=ALPHA&exclude=bravo",
            "exclude=ALPHA,,bravo",
        ),
        *("exclude=nobody", "where=site:warsaw", "where=site:krakow&where=hardware.gpu.vram_gb:24"),
        *("where=contact.on_call.name:B", "where=contact.on_call.phone:null", "where=hardware.ram_gb:128"),
        *("where=site:none", "where=nothing", "where=:x", "where=api_key:hidden", "where=notes.password:x"),
        *(
            "where=notes.max_tokens:4096",
            "cold=maybe",
            "cold=1",
            "cold=0",
            "cold=false",
            "min_free_vram_gb=-1",
        ),
        *(
            "min_free_vram_gb=x",
            "min_free_vram_gb=inf",
            "min_free_vram_gb=nan",
            "min_context=-1",
            "min_context=1.5",
        ),
        *(
            "min_context=1e3",
            "unknown=1",
            "role=a&role=b",
            "model=other",
            "ttl_s=5",
            "holder=me",
            "max_wait_s=1",
        ),
        *(
            "session=x",
            "where=a:" + "x" * 513,
            "tag=primary&role=gpu-host&where=site:warsaw&min_free_vram_gb=20",
        ),
    ):
        yield get(f"/api/route?explain=true&model={LLAMA}&{query}")
    for query in (
        *(
            "min_free_vram_gb=8",
            "min_free_vram_gb=16",
            "min_free_vram_gb=23",
            "min_context=100000",
            "tag=gpu",
        ),
        *("exclude=mike", "exclude=mike&exclude=november", "where=limits.max_loaded_models:1"),
    ):
        yield get(f"/api/route?explain=true&model={QWEN}&cold=true&{query}")
    yield get(f"/api/route?explain=true&model={PHI}&min_free_vram_gb=1")
    yield get("/api/route?explain=true&model=qwen2.5:7b&min_free_vram_gb=1")
    yield get(f"/api/route?explain=true&model={CLOUD}&min_free_vram_gb=100&min_context=100000")
    yield get("/api/route?explain=true")
    yield get("/api/route?explain=true&model=")
    yield get("/api/route?modle=x")
    yield get("/api/route?explain=true&model=%ff")
    yield get(
        f"/api/route?explain=true&model={LLAMA}&" + "&".join(f"exclude=m{number}" for number in range(3000))
    )
    yield ask("HEAD", f"/api/route?explain=true&model={LLAMA}")


SUBJECTS: dict[str, Callable[[Scene], Subject]] = {
    one.__name__: one
    for one in (present, files, page, methods, guard, past, advice, leases, changes, stalled)
}
"""In the order in which they are asked."""
