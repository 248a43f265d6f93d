"""The fleet's series: names, units and labels, and that nothing unknown has a value."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from machines_server.core.routing.fleet import Fleet
from machines_server.core.sample import GIB, GpuSample, GpuUnreadable, HostSample, metrics_of
from machines_server.core.state import MachineState
from machines_server.core.status import Status, Verdict
from machines_server.core.text import printable
from machines_server.exposition.families import ALL, GPU, HOST, SAMPLE_AGE
from machines_server.exposition.fleet import MAX_KEPT_GPUS, FleetLines, age_lines, text_of_lines
from machines_server.exposition.targets import sidecar_targets
from tests.core.machines import a_machine
from tests.core.routing.fleets import LLAMA, NOW, a_fleet, a_live, a_model
from tests.exposition.reading import Exposition
from tests.readme import page

CARD = GpuSample(0, "GPU-0", "24GB", "dedicated", 24 * GIB, 20 * GIB, 4 * GIB, 47, 61, 212.5)
FULL = HostSample(12.5, 1.1, 0.9, 0.7, 1, 4, 3, 10, 40, 29, 12345, (CARD,))


def shown(fleet: Fleet, now: float = NOW, **problems: int) -> Exposition:
    lines = {**FleetLines().write(fleet, problems), SAMPLE_AGE.name: list(age_lines(fleet, now))}
    return Exposition(text_of_lines(lines))


def live(host: HostSample | None, status: Status = Status.ONLINE, **changes: Any) -> MachineState:
    values: dict[str, Any] = {
        "machine": a_machine(),
        "verdict": Verdict(status),
        "host": host,
        "sampled_at": NOW - 3 if host else None,
        "last_seen": NOW,
        "ollama": None,
        "ollama_reason": None,
        "models": (),
    }
    return MachineState(**values | changes)


def test_every_metric_of_the_catalogue_has_a_family() -> None:
    loads = {"load_1m", "load_5m", "load_15m"}
    families = {one.attribute for one in HOST} | loads
    metrics = {one.name for one in metrics_of(HostSample)}
    assert families == metrics, f"change HOST of exposition/families.py: {families ^ metrics}"
    in_order = [one.attribute for one in GPU]
    assert in_order == [one.name for one in metrics_of(GpuSample)], "change GPU of exposition/families.py"


def test_every_family_stands_in_its_page() -> None:
    for family in ALL:
        assert f"`{family.name}" in page("prometheus.md"), f"docs/prometheus.md: {family.name}"


def test_values_are_in_base_units() -> None:
    found = shown(a_fleet(live(FULL)))
    assert found.value("machines_cpu_usage_ratio", machine="one") == 0.125
    assert found.value("machines_ram_used_bytes", machine="one") == 1
    assert found.value("machines_disk_available_bytes", machine="one") == 29
    assert found.value("machines_uptime_seconds", machine="one") == 12345
    assert found.value("machines_load_average", machine="one", period="15m") == 0.7
    card = {"machine": "one", "gpu": "0", "uuid": "GPU-0", "model": "24GB"}
    assert found.value("machines_gpu_memory_free_bytes", **card) == 4 * GIB
    assert found.value("machines_gpu_utilisation_ratio", **card) == 0.47
    assert found.value("machines_gpu_temperature_celsius", **card) == 61
    assert found.value("machines_gpu_power_watts", **card) == 212.5
    assert found.value("machines_sample_age_seconds", machine="one") == 3
    found.check()


def test_what_is_unknown_has_no_series() -> None:
    card = GpuSample(0, "GPU-0", None, "unknown", 1, 1, 0)
    lost = (GpuUnreadable(1, None, "lost"), GpuUnreadable(None, None, "lost"), GpuUnreadable(None, None, "x"))
    found = shown(a_fleet(live(HostSample(gpu=(card,), gpu_unreadable=lost))))
    of_host = {"machines_up", "machines_status", "machines_info", "machines_sample_age_seconds"}
    of_card = {f"machines_gpu_memory_{part}_bytes" for part in ("total", "used", "free")}
    assert found.names(machine="one") == of_host | of_card | {"machines_gpu_readable"}
    assert found.value("machines_gpu_readable", machine="one", gpu="0", uuid="GPU-0") == 1
    assert found.value("machines_gpu_readable", machine="one", gpu="1", uuid="") == 0
    assert found.value("machines_gpu_readable", machine="one", gpu="", uuid="") == 0


@pytest.mark.parametrize("status", Status)
def test_only_a_machine_that_is_online_has_live_series(status: Status) -> None:
    found = shown(a_fleet(live(FULL, status, models=(a_model(),))))
    assert {one["status"] for one in found.labels("machines_status")} == set(Status)
    assert found.sum("machines_status") == found.value("machines_status", machine="one", status=status) == 1
    is_up = {Status.ONLINE: 1, Status.DEGRADED: 1, Status.OFFLINE: 0, Status.UNKNOWN: None}
    assert found.value("machines_up", machine="one") == is_up[status]
    assert found.value("machines_sample_age_seconds", machine="one") == 3
    assert (found.sum("machines_ram_used_bytes") > 0) is (status is Status.ONLINE)
    assert (found.sum("machines_model_vram_bytes") > 0) is (status in (Status.ONLINE, Status.DEGRADED))


def test_a_model_is_named_as_the_file_names_it_and_its_memory_is_known_or_absent() -> None:
    models = (
        a_model("nomic-embed-text:latest", gb=1, on_gpu=0),
        a_model(LLAMA, gb=40, on_gpu=0.5),
        a_model("phi3:mini", size_vram_bytes=None, size_bytes=None),
    )
    machine = a_live("one", models=models, declares=["nomic-embed-text"])
    fleet = a_fleet(machine, held_since={"one": {LLAMA: NOW - 60.25, "nomic-embed-text:latest": NOW - 5}})
    found = shown(fleet)
    assert found.value("machines_model_size_bytes", machine="one", model=LLAMA) == 40 * GIB
    assert found.value("machines_model_vram_bytes", machine="one", model=LLAMA) == 20 * GIB
    assert found.value("machines_model_vram_bytes", machine="one", model="nomic-embed-text") == 0
    assert {one["model"] for one in found.labels("machines_model_size_bytes")} == {LLAMA, "nomic-embed-text"}
    since = "machines_model_loaded_timestamp_seconds"
    assert found.value(since, machine="one", model=LLAMA) == NOW - 60.25


def test_two_models_of_one_name_are_one_series() -> None:
    models = a_model("m", gb=1), a_model("m:latest", gb=2), a_model("n", gb=1), a_model("n", size_bytes=None)
    found = shown(a_fleet(a_live("one", models=models, declares=["m", "n"])))
    assert found.value("machines_model_size_bytes", machine="one", model="m") == 3 * GIB
    assert found.value("machines_model_size_bytes", machine="one", model="n") is None
    assert found.value("machines_model_vram_bytes", machine="one", model="n") == 41 * GIB


def test_what_is_kept_of_a_machine_changes_with_it() -> None:
    machine = a_machine(models=("m",))
    states = [
        live(FULL, machine=machine, models=(a_model("m:latest", gb=2),)),
        live(FULL, Status.DEGRADED, machine=machine, models=(a_model("m:latest", gb=3), a_model("n"))),
        live(FULL, Status.OFFLINE, machine=machine),
        *(live(HostSample(gpu=(card,)), machine=machine) for card in cards(2 * MAX_KEPT_GPUS)),
        live(FULL, machine=a_machine(role="other", models=("m:latest",)), models=(a_model("m:latest"),)),
        live(FULL, machine=machine, models=(a_model("m:latest", gb=2),)),
    ]
    kept = FleetLines()
    for number, state in enumerate([*states, *states]):
        fleet = a_fleet(state, held_since={"one": {"m:latest": NOW - number // 2}})
        assert kept.write(fleet, {}) == FleetLines().write(fleet, {})


def cards(number: int) -> Iterator[GpuSample]:
    for index in range(number):
        yield GpuSample(index, f"GPU-{index}", None if index % 2 else "24GB", "dedicated", 2, 1, 1)


def test_no_age_is_below_zero_when_the_clock_was_set_back() -> None:
    assert shown(a_fleet(live(FULL)), now=NOW - 60).value("machines_sample_age_seconds", machine="one") == 0


def test_an_empty_fleet_has_no_series_but_that_of_its_files() -> None:
    assert shown(a_fleet(), error=0, warning=2).names() == {"machines_file_problems"}
    assert shown(a_fleet(), error=0, warning=2).value("machines_file_problems", severity="warning") == 2


TEXTS = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ['a"b', "a\\", "a\nb", "\ud800", "}"]
)


@given(role=TEXTS, uuid=TEXTS, model=TEXTS, loaded=TEXTS, tags=st.lists(TEXTS | st.none() | st.integers()))
def test_no_text_from_outside_breaks_the_format(
    role: str, uuid: str, model: str, loaded: str, tags: list[Any]
) -> None:
    card = GpuSample(0, uuid, model, "dedicated", 2, 1, 1)
    machine = a_machine(role=role, declared={"tags": tags})
    lost = (GpuUnreadable(1, f"{uuid}x", "lost"),)
    state = live(
        HostSample(gpu=(card,), gpu_unreadable=lost), machine=machine, models=(a_model(f"m{loaded}"),)
    )
    text = text_of_lines(FleetLines().write(a_fleet(state), {}))
    assert printable(text.replace("\n", "")) == text.replace("\n", "")
    found = Exposition(text)
    assert found.value(
        "machines_gpu_memory_free_bytes", machine="one", gpu="0", **shown_as(uuid=uuid, model=model)
    )
    (info,) = found.labels("machines_info")
    assert info["role"] == printable(role)
    (target,) = sidecar_targets([machine])
    assert (target.labels.tags or "") == info["tags"]


def shown_as(**texts: str) -> dict[str, str]:
    return {label: printable(text) for label, text in texts.items()}


def test_targets_have_what_service_discovery_needs() -> None:
    plain = a_machine(hostname="10.0.0.7", declared={"tags": ["gpu", "rack 3", 24]})
    (target,) = sidecar_targets([plain, a_machine("two", has_sidecar=False)])
    assert target.targets == ("10.0.0.7:3039",)
    assert (target.labels.machine, target.labels.role) == ("one", "gpu-host")
    assert (target.labels.scheme, target.labels.metrics_path) == ("http", "/metrics")
    assert target.labels.tags == ",gpu,rack 3,24,"
    (six,) = sidecar_targets([a_machine(hostname="fd00::7")])
    assert six.targets == ("[fd00::7]:3039",)
    assert six.labels.tags is UNSET
