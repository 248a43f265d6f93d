"""Which series a sample belongs to, with which values, and when they end."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS, METRICS
from machines_server.core.sample import (
    GpuSample,
    GpuUnreadable,
    HostSample,
    LoadedModel,
    PollResult,
    Sample,
    State,
)
from machines_server.exposition import families
from machines_server.store.promql.names import (
    GPU_INFO,
    VRAM_OF_MODEL,
    series_name,
    stamp_ms,
    stored_per_value,
)
from machines_server.store.promql.sample_series import MAX_NEW_SERIES_AN_HOUR, SampleSeries
from tests.core.machines import OLLAMA
from tests.store.polls import GPU, HOST, LLAMA, PHI, answered, listed, missed, polled, sample
from tests.store.promql.messages import Read, read

AT, HOUR_S = 1_700_000_000.0, 3600
Key = tuple[str, ...]
PARTS_OF_RAM = "ram_total", "ram_used", "ram_available"
PARTS_OF_DISK = "disk_total", "disk_used", "disk_available"


def key(one: Read) -> Key:
    """Its name, and its other labels but those of the machine."""
    rest = {name: value for name, value in one.labels.items() if name not in ("__name__", "machine", "site")}
    return (one.labels["__name__"].removeprefix("machines_"), *rest.values())


class Sent:
    """What a SampleSeries makes."""

    def __init__(self) -> None:
        self.series = SampleSeries()

    def add(self, *results: PollResult, site: str = "") -> list[Read]:
        return self.of(sample(*results), site)

    def of(self, one: Sample, site: str = "") -> list[Read]:
        parts = list[bytes]()
        number = self.series.add(parts, one, site)
        found = read(b"".join(parts))
        assert number == len(found)
        return found

    def remove(self, at: float) -> list[Read]:
        parts = list[bytes]()
        number = self.series.remove(parts, "one", at)
        found = read(b"".join(parts))
        assert number == len(found)
        return found


@pytest.fixture
def sent() -> Sent:
    return Sent()


def values(found: list[Read]) -> Mapping[Key, float]:
    """The values that are not ends."""
    return {key(one): one.value for one in found if one.value == one.value}


def ended(found: list[Read]) -> list[Key]:
    return sorted(key(one) for one in found if one.value != one.value)


def test_a_sample_makes_a_series_of_each_value_that_is_known(sent: Sent) -> None:
    found = sent.add(answered(AT + 0.127), listed(AT, LLAMA, PHI), site="lab")
    assert {(one.labels["machine"], one.labels["site"], one.at_ms) for one in found} == {
        ("one", "lab", 1_700_000_000_120)
    }
    assert values(found) == {
        ("up",): 1,
        ("poll_s",): 0.01,
        ("cpu_percent",): 12.4,
        ("ram_used_bytes",): 2**30,
        ("utilisation", "GPU-a"): 0,
        ("temperature_c", "GPU-a"): 61,
        ("vram_total_bytes", "GPU-a"): 24,
        ("vram_used_bytes", "GPU-a"): 18,
        ("vram_free_bytes", "GPU-a"): 6,
        ("gpu_info", "GPU-a", "0", "card"): 1,
        ("model_vram_bytes", "llama3.1:70b"): 42,
        ("model_vram_bytes", "phi3:mini"): 0,
    }


def test_every_metric_of_the_catalogue_has_a_series(sent: Sent) -> None:
    known: dict[str, Any] = {metric.column: 1 for metric in MACHINE_METRICS[2:]}
    gpu = GpuSample(0, "GPU-a", None, "dedicated", **{metric.column: 1 for metric in GPU_METRICS})
    found = sent.add(answered(AT, HostSample(**known, gpu=(gpu,))))
    assert {one.labels["__name__"] for one in found} == {*map(series_name, METRICS.values()), GPU_INFO}


def test_a_series_that_metrics_has_as_well_means_the_same_there() -> None:
    ours = {series_name(metric): metric for metric in METRICS.values()}
    same = {"machines_up"} | {
        f"machines_{what}_{part}_bytes" for what in ("ram", "disk") for part in ("total", "used", "available")
    }
    both = {family.name for family in families.ALL} & {*ours, GPU_INFO, VRAM_OF_MODEL}
    wanted = {*same, VRAM_OF_MODEL}
    assert both == wanted, f"if it means the same, add it to `same` above: {both ^ wanted}"
    assert families.MODEL_VRAM.name == VRAM_OF_MODEL
    columns = {family.name: (family.attribute, family.divisor) for family in families.HOST}
    for name in same - {"machines_up"}:
        assert columns[name] == (ours[name].column, 1)


@given(st.floats(0, 1e9))
def test_a_value_comes_back_as_the_thousandths_that_another_store_keeps(value: float) -> None:
    found = values(Sent().add(answered(AT, HostSample(uptime_s=value))))
    assert round(found["uptime_s",] * stored_per_value(METRICS["uptime_s"])) == round(value * 1000)


@given(st.floats(1e9, 2e9))
def test_a_stamp_is_whole_hundredths_and_in_the_bucket_of_its_sample(at: float) -> None:
    assert stamp_ms(at) % 10 == 0
    assert stamp_ms(at) // 1000 == round(at * 1000) // 1000


def test_a_machine_that_is_away_is_not_up_and_its_other_series_just_pause(sent: Sent) -> None:
    sent.add(answered(AT), listed(AT, LLAMA))
    found = sent.add(missed(AT + 5), polled(OLLAMA, AT + 5, state=State.BUSY))
    assert values(found) == {("up",): 0, ("poll_s",): 0.01}
    assert ended(found) == []
    assert ended(sent.add(answered(AT + 10), listed(AT + 10, LLAMA))) == []


def test_a_model_that_leaves_ends_once(sent: Sent) -> None:
    sent.add(answered(AT), listed(AT, LLAMA, PHI))
    found = sent.add(answered(AT + 5), listed(AT + 5, PHI))
    assert ended(found) == [("model_vram_bytes", "llama3.1:70b")]
    assert {one.at_ms for one in found} == {stamp_ms(AT + 5)}
    assert ended(sent.add(answered(AT + 10), listed(AT + 10, PHI))) == []
    assert ended(sent.add(answered(AT + 15), listed(AT + 15))) == [("model_vram_bytes", "phi3:mini")]


def test_a_model_that_leaves_while_the_host_is_silent_ends_when_that_is_known(sent: Sent) -> None:
    sent.add(answered(AT), listed(AT, LLAMA))
    assert ended(sent.add(answered(AT + 5), polled(OLLAMA, AT + 5, state=State.BUSY))) == []
    assert ended(sent.add(missed(AT + 10), listed(AT + 10))) == [("model_vram_bytes", "llama3.1:70b")]


def test_models_of_one_name_are_added_up_and_an_unknown_size_is_no_value(sent: Sent) -> None:
    some = replace(LLAMA, digest="another", size_vram_bytes=8)
    assert values(sent.add(listed(AT, LLAMA, some)))["model_vram_bytes", "llama3.1:70b"] == 50
    unknown = replace(some, size_vram_bytes=None)
    found = sent.add(listed(AT + 5, LLAMA, unknown, PHI))
    assert ended(found) == [("model_vram_bytes", "llama3.1:70b")]
    assert values(found)["model_vram_bytes", "phi3:mini"] == 0


def test_a_gpu_that_vanishes_or_cannot_be_read_ends(sent: Sent) -> None:
    other = replace(GPU, uuid="GPU-b", index=1)
    sent.add(answered(AT, replace(HOST, gpu=(GPU, other))))
    unreadable = (GpuUnreadable(1, "GPU-b", "lost"),)
    found = sent.add(answered(AT + 5, replace(HOST, gpu=(GPU,), gpu_unreadable=unreadable)))
    assert {one[1] for one in ended(found)} == {"GPU-b"}
    assert {one[0] for one in ended(found)} == {
        *(
            "utilisation",
            "temperature_c",
            "vram_total_bytes",
            "vram_used_bytes",
            "vram_free_bytes",
            "gpu_info",
        )
    }
    back = sent.add(answered(AT + 10, replace(HOST, gpu=(GPU, other))))
    assert ended(back) == []
    assert ("gpu_info", "GPU-b", "1", "card") in values(back)


def test_a_gpu_with_another_index_goes_on_and_its_old_description_ends(sent: Sent) -> None:
    sent.add(answered(AT))
    found = sent.add(answered(AT + 5, replace(HOST, gpu=(replace(GPU, index=3),))))
    assert ended(found) == [("gpu_info", "GPU-a", "0", "card")]
    assert ("vram_used_bytes", "GPU-a") in values(found)


def test_a_value_that_is_no_longer_reported_ends(sent: Sent) -> None:
    sent.add(answered(AT))
    found = sent.add(answered(AT + 5, replace(HOST, cpu_percent=None, uptime_s=7)))
    assert ended(found) == [("cpu_percent",)]
    assert values(found)["uptime_s",] == 7


def test_a_machine_that_is_removed_ends_with_all_its_series_after_its_last_sample(sent: Sent) -> None:
    live = {key(one) for one in sent.add(answered(AT), listed(AT, LLAMA))}
    sent.add(missed(AT + 5))
    found = sent.remove(AT + 1)
    assert set(ended(found)) == live
    assert {one.at_ms for one in found} == {stamp_ms(AT + 5) + 10}
    assert sent.remove(AT + 20) == []


def test_a_machine_that_another_poller_takes_over_does_not_end(sent: Sent) -> None:
    sent.add(answered(AT), listed(AT, LLAMA))
    sent.series.forget("one")
    assert sent.remove(AT + 5) == []


def test_a_machine_that_moves_to_another_site_ends_there(sent: Sent) -> None:
    sent.add(answered(AT), site="lab")
    found = sent.add(answered(AT + 5), site="hall")
    at = {one.labels["site"] for one in found if one.value != one.value}
    assert at == {"lab"}
    assert {one.labels["site"] for one in found if one.value == one.value} == {"hall"}


def test_two_samples_of_one_stamp_are_one(sent: Sent) -> None:
    assert sent.add(answered(AT))
    assert sent.add(answered(AT + 0.004)) == []
    assert sent.add(answered(AT + 0.01))


@pytest.mark.parametrize("at", [0.0, -5.0, 4.3e9 * 1000])
def test_a_sample_of_an_impossible_time_is_left_out(sent: Sent, at: float) -> None:
    assert sent.add(answered(at)) == []


def test_names_that_a_host_invents_are_limited_by_the_hour(sent: Sent) -> None:
    found = set[Key]()
    for number in range(1500):
        model = LoadedModel(f"model-{number}", "d", 1, 1)
        found |= values(sent.add(listed(AT // HOUR_S * HOUR_S + number, model, LLAMA))).keys()
    models = {one[1] for one in found if one[0] == "model_vram_bytes"}
    assert len(models) == MAX_NEW_SERIES_AN_HOUR
    assert "llama3.1:70b" in models
    assert sent.series.left_out > 0
    later = values(sent.add(listed(AT + HOUR_S, LoadedModel("model-1400", "d", 1, 1))))
    assert ("model_vram_bytes", "model-1400") in later


def test_a_gpu_that_is_listed_twice_has_each_series_once(sent: Sent) -> None:
    found = sent.add(answered(AT, replace(HOST, gpu=(GPU, GPU))))
    assert len({tuple(one.labels.items()) for one in found}) == len(found)
