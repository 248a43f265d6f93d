"""How much GPU memory is free: measured, unknown, or none."""

from dataclasses import replace
from typing import Any

import pytest

from machines_server.core.routing.leases import Warmth
from machines_server.core.sample import (
    GpuUnreadable,
    HostSample,
    LoadedModel,
)
from tests.core.routing.fleets import (
    a_fleet,
    a_lease,
    a_live,
    a_model,
    ask,
    codes,
    names,
    on_cpu,
    only,
)


def test_a_host_without_gpu_takes_part_with_no_vram() -> None:
    fleet = a_fleet(a_live("cpu", [], [on_cpu()]), a_live("gpu", [0.1], [a_model()]))
    ranking = ask(fleet)
    assert names(ranking) == ["gpu", "cpu"]
    assert ranking.candidates[1].free_vram_gb == 0.0
    assert ranking.candidates[1].warmth is Warmth.WARM
    assert codes(ask(fleet, min_free_vram_gb=0.2)) == {"gpu": "not_enough_vram", "cpu": "not_enough_vram"}


def test_free_vram_that_nobody_measured_is_unknown_and_fits_nothing_that_needs_some() -> None:
    fleet = a_fleet(a_live("bare", None, [a_model()]))
    assert only(ask(fleet)).free_vram_gb is None
    ranking = ask(fleet, min_free_vram_gb=1)
    assert codes(ranking) == {"bare": "vram_unknown"}
    assert "no sidecar" in ranking.rejected[0].reason


def test_a_host_whose_gpus_cannot_be_read_says_why() -> None:
    live = a_live("lost", [], [a_model()])
    host = HostSample(gpu_unreadable=(GpuUnreadable(0, "GPU-0", "NVML: GPU is lost"),))
    fleet = a_fleet(replace(live, host=host))
    assert only(ask(fleet)).free_vram_gb is None
    assert "GPU is lost" in ask(fleet, min_free_vram_gb=1).rejected[0].reason


NOT_MEASURED: dict[str, tuple[list[LoadedModel], Any, str]] = {
    "Ollama uses it": ([a_model(gb=20, on_gpu=0.3)], {}, "its Ollama has models in GPU memory"),
    "Ollama uses it for another": ([on_cpu(), a_model("phi3", gb=2)], [], "models in GPU memory"),
    "declared": ([on_cpu()], [{"model": "AMD", "vram_gb": 24}], "its file declares some"),
    "declared in a word": ([on_cpu()], "Apple M2 Ultra", "its file declares some"),
}


@pytest.mark.parametrize("case", NOT_MEASURED)
def test_gpu_memory_that_the_sidecar_does_not_measure_is_not_absent(case: str) -> None:
    models, gpu, told = NOT_MEASURED[case]
    amd = a_live("amd", [], models, declared={"hardware": {"gpu": gpu}})
    ranking = ask(a_fleet(amd, a_live("measured", [0.5], [a_model()])))
    assert names(ranking) == ["measured", "amd"]
    assert ranking.candidates[1].free_vram_gb is None
    assert ranking.candidates[1].warmth is Warmth.HALF_WARM
    assert models[0].processor in ranking.candidates[1].reason
    rejected = ask(a_fleet(amd), min_free_vram_gb=1).rejected[0]
    assert (rejected.code, told in rejected.reason) == ("vram_unknown", True)
    assert only(ask(a_fleet(amd), a_lease("amd"))).free_vram_gb is None


def test_a_host_that_has_used_gpu_memory_has_not_lost_it_when_nothing_is_loaded() -> None:
    amd = replace(a_live("amd", []), used_vram=True)
    assert codes(ask(a_fleet(amd), min_free_vram_gb=1, cold=True)) == {"amd": "model_not_there"}
    held = replace(a_live("amd", [], [on_cpu()]), used_vram=True)
    assert only(ask(a_fleet(held))).free_vram_gb is None


@pytest.mark.parametrize("gpu", [[], None, {}, "none", "No", 0, False, [None], ""])
def test_a_host_that_declares_no_gpu_and_uses_none_has_none(gpu: Any) -> None:
    cpu = a_live("cpu", [], [on_cpu()], declared={"hardware": {"gpu": gpu}})
    assert only(ask(a_fleet(cpu))).free_vram_gb == 0.0
    assert codes(ask(a_fleet(cpu), min_free_vram_gb=1)) == {"cpu": "not_enough_vram"}


def test_min_free_vram_is_measured_on_one_gpu() -> None:
    fleet = a_fleet(a_live("two", [2.1, 1.0], [a_model()]))
    assert names(ask(fleet, min_free_vram_gb=2.1)) == ["two"]
    ranking = ask(fleet, min_free_vram_gb=4)
    assert ranking.rejected[0][:3] == (
        "two",
        "not_enough_vram",
        "needs 4 GiB, has 2.1 GiB free on its best GPU",
    )
    assert ranking.retry_after_s is None
