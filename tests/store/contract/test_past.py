"""The past of one machine: exact at any scale, separate by metric, machine and GPU, and kept for good."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from machines_server.core.machine import Registry
from machines_server.core.past.metrics import METRICS
from machines_server.core.past.rollup import Fold, fold
from machines_server.core.past.series import KnownGpu
from machines_server.core.sample import Cycle, GpuSample, HostSample, Sample
from machines_server.errors import StoreError
from machines_server.store.api import Past
from machines_server.store.values import SeriesKey
from tests.fakes import wait_until
from tests.store.contract.conftest import Write
from tests.store.contract.stores import MAX_GAP_S, Stores
from tests.store.polls import (
    LLAMA,
    PHI,
    REGISTRY,
    answered,
    listed,
    machine,
    missed,
    of_one,
    sample,
)

START = 1_700_000_000 // 3600 * 3600
CPU, VRAM, UP = METRICS["cpu_percent"], METRICS["vram_used_gb"], METRICS["up"]
MIB = 2**20


def sampled(at: float, cpu: float | None = 1.0, *, vram: int = MIB, cards: int = 1) -> Sample:
    """What a cycle learned of a machine, whose second card uses twice as much, and so on."""
    gpus = tuple(
        GpuSample(number, f"GPU-{number}", "card", "dedicated", 2**34, used, 2**34 - used)
        for number in range(cards)
        for used in [vram * (number + 1)]
    )
    return sample(answered(at, HostSample(cpu_percent=cpu, gpu=gpus)))


@pytest.mark.parametrize("step_s", [50, 60, 600, 1800, 2040, 3600, 7200])
def test_each_bucket_is_exact_whatever_its_length(write: Write, past: Past, step_s: int) -> None:
    values = {START + at: None if at % 35 == 0 else at % 97 / 10 for at in range(0, 7200, 5)}
    write(REGISTRY, *(sampled(at, value) for at, value in values.items()))
    from_s, to_s = START // step_s * step_s, (START + 7200) // step_s * step_s + step_s
    buckets: dict[int, list[int]] = {}
    for at, value in values.items():
        if value is not None:
            buckets.setdefault(at // step_s * step_s, []).append(round(value * 1000))
    expected = [(at, fold(some)) for at, some in buckets.items()]
    assert past.series([SeriesKey("one", CPU)], from_s, to_s, step_s) == [expected]


def test_a_gap_stays_a_gap_and_a_machine_that_is_away_has_samples(write: Write, past: Past) -> None:
    write(REGISTRY, sampled(START + 10), sample(missed(START + 190)))
    cpu, up = past.series([SeriesKey("one", CPU), SeriesKey("one", UP)], START, START + 300, 60)
    assert [at - START for at, _ in cpu] == [0]
    assert [(at - START, found.sum) for at, found in up] == [(0, 1), (180, 0)]


def test_a_range_holds_its_beginning_and_not_its_end(write: Write, past: Past) -> None:
    write(REGISTRY, *(sampled(START + at, at) for at in (0, 59.99, 60)))
    assert past.series([SeriesKey("one", CPU)], START, START + 60, 60) == [
        [(START, Fold(2, 59_990, 0, 59_990))]
    ]


def test_each_gpu_has_a_series_of_its_own(write: Write, past: Past) -> None:
    write(REGISTRY, sampled(START, vram=MIB, cards=2))
    known = past.machine("ONE")
    assert known is not None
    assert known.name == "one"
    assert list(known.gpus) == [KnownGpu(0, "GPU-0", "card"), KnownGpu(1, "GPU-1", "card")]
    keys = [
        SeriesKey("one", VRAM, "GPU-1"),
        SeriesKey("one", VRAM, "GPU-0"),
        SeriesKey("one", VRAM, "another"),
    ]
    found = past.series(keys, START, START + 60, 60)
    assert [[fold.sum for _, fold in points] for points in found] == [[2 * MIB], [MIB], []]


def test_metrics_that_are_asked_for_together_are_answered_as_alone(write: Write, past: Past) -> None:
    times = range(0, 7200, 45)
    write(
        REGISTRY,
        *(sampled(START + at, None if at % 90 else at / 100, vram=(at + 1) * MIB) for at in times),
    )
    wanted = [
        SeriesKey("one", VRAM, "GPU-0"),
        SeriesKey("one", CPU),
        SeriesKey("one", UP),
        SeriesKey("one", METRICS["vram_free_gb"], "GPU-0"),
    ]
    for step_s in (50, 2040, 7200):
        span = START // step_s * step_s, (START + 7200) // step_s * step_s + step_s
        together = past.series(wanted, *span, step_s)
        assert together == [past.series([one], *span, step_s)[0] for one in wanted]
        assert sum(fold.n for _, fold in together[1]) == 80


def test_questions_at_the_same_time_are_answered_the_same(write: Write, past: Past) -> None:
    write(REGISTRY, *(sampled(START + at, at / 60) for at in range(0, 3600, 60)))

    def ask(_: int) -> object:
        return past.series([SeriesKey("one", CPU)], START, START + 3600, 60)

    expected = ask(0)
    with ThreadPoolExecutor(16) as threads:
        assert all(one == expected for one in threads.map(ask, range(100)))


def test_a_machine_that_is_removed_keeps_its_past_and_comes_back_as_itself(write: Write, past: Past) -> None:
    write(REGISTRY, sampled(START))
    write(Registry(loaded_at=START + 10))
    before = past.series([SeriesKey("one", CPU)], START, START + 60, 60)
    assert before == [[(START, Fold(1, 1000, 1000, 1000))]]
    assert past.machine("one") is not None
    write(sampled(START + 20))  # an answer that came after the file went away
    assert past.series([SeriesKey("one", CPU)], START, START + 60, 60) == before
    write(Registry((machine("One"),), loaded_at=START + 30), sampled(START + 40))
    assert past.series([SeriesKey("one", CPU)], START, START + 60, 60)[0][0][1].n == 2


def test_series_of_several_machines_are_those_of_each(write: Write, past: Past) -> None:
    write(Registry((machine(), machine("two")), loaded_at=1.0), sampled(START, 2.0))
    write(replace(sampled(START + 5, 4.0), machine="two"))
    keys = [SeriesKey("TWO", CPU), SeriesKey("one", UP), SeriesKey("one", CPU), SeriesKey("nobody", CPU)]
    two, up, one, nobody = past.series(keys, START, START + 60, 60)
    assert [points[0][1].sum for points in (two, up, one)] == [4000, 1, 2000]
    assert nobody == []


def test_the_machines_of_a_range_are_those_declared_in_it(write: Write, past: Past) -> None:
    write(Registry((machine("b"), machine("A")), loaded_at=START))
    write(Registry((machine("b"),), loaded_at=START + 100))
    assert past.machine_names(START + 10, START + 20) == ["A", "b"]
    assert past.machine_names(START + 100, START + 101) == ["A", "b"]
    assert past.machine_names(START + 101, START + 200) == ["b"]
    assert past.machine_names(START - 50, START) == []


def test_nothing_is_known_of_a_machine_that_never_was(write: Write, past: Past) -> None:
    write(REGISTRY, sampled(START))
    assert past.machine("two") is None
    assert past.series([SeriesKey("two", CPU)], START, START + 60, 60) == [[]]
    assert list(past.statuses("two", START, START + 60)) == []
    assert past.events(["two"], [], START, START + 60, 10).events == []


def test_polls_without_a_break_are_one_span(write: Write, past: Past) -> None:
    cycles = [START, START + 5, START + 10, START + 10 + MAX_GAP_S + 5]
    write(REGISTRY, *(Cycle(at, at + 1, 5, 2) for at in cycles))
    spans = [(START, START + 11), (cycles[-1], cycles[-1] + 1)]
    assert past.poll_spans(START, START + 60) == spans
    assert past.poll_spans(START + 12, START + 60) == spans[1:]
    assert past.poll_spans(START, START + 12) == spans[:1]
    write(Cycle(cycles[-1] + 5, cycles[-1] + 6, 5, 2))  # by the next poller, within the gap
    assert past.poll_spans(START, START + 60)[1] == (cycles[-1], cycles[-1] + 6)


def test_how_long_a_model_was_in_memory_within_a_range(write: Write, past: Past) -> None:
    write(
        REGISTRY,
        *of_one(listed(START, LLAMA, PHI)),
        *of_one(listed(START + 10, LLAMA, PHI)),
        *of_one(listed(START + 20, PHI)),
        *of_one(listed(START + 30, PHI)),
    )
    found = {
        one.model: (one.last_seen - START, one.resident_s) for one in past.residency(START + 5, START + 25)
    }
    assert found == {LLAMA.model: (10, 5), PHI.model: (30, 20)}
    assert {one.machine for one in past.residency(0, START)} == {"one"}


def test_an_unavailable_store_is_a_fault_until_a_call_succeeds(
    write: Write, past: Past, stores: Stores
) -> None:
    write(REGISTRY, sampled(START))
    assert past.fault() is None
    stores.break_off()
    for call in (
        lambda: past.machine("one"),
        lambda: past.series([SeriesKey("one", CPU)], START, START + 60, 60),
        lambda: past.events([], [], 0, START, 10),
        lambda: list(past.statuses("one", 0, START)),
        lambda: past.poll_spans(0, START),
        lambda: past.residency(0, START),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert past.fault() == str(caught.value)
    stores.mend()

    def is_known() -> bool:
        with suppress(StoreError):
            return past.machine("one") is not None
        return False

    wait_until(is_known)
    assert past.fault() is None
