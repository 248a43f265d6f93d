"""What a sidecar says about GPUs; one that cannot be used costs no other."""

from typing import Any

import pytest

from machines_server.runtimes.sidecar import MAX_GPUS
from tests.bodies import GIB, gpu_body, sidecar_body
from tests.runtimes.reading import parse_sidecar, read_sidecar
from tests.runtimes.refusals import refused


@pytest.mark.parametrize("missing", ["vram_total_bytes", "vram_used_bytes", "vram_free_bytes"])
def test_a_gpu_without_a_memory_reading_counts_as_unreadable(missing: str) -> None:
    sample = parse_sidecar(sidecar_body(gpu_body(3, used_gb=1) | {missing: None}, gpu_body(4, used_gb=1)))
    assert [gpu.index for gpu in sample.gpu] == [4]
    (unreadable,) = sample.gpu_unreadable
    assert (unreadable.index, unreadable.uuid) == (3, "GPU-3")
    assert unreadable.reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("utilisation", value) for value in (101, -1, 808334905, 4294967295, "47", True)),
        *(("temperature_c", value) for value in (-1, 65535, 4294967295, [61], {"c": 61})),
        *(("power_w", value) for value in (-0.1, 4294967, 4294967.295, 4294967295, "212 W")),
        *(("model", value) for value in (7, "", "x" * 513, ["card"])),
    ],
)
def test_a_reading_of_a_gpu_that_cannot_be_is_unknown_and_said(field: str, value: Any) -> None:
    sample, odd = read_sidecar(sidecar_body(gpu_body(0, used_gb=1, **{field: value})))
    (gpu,) = sample.gpu
    (good,) = parse_sidecar(sidecar_body(gpu_body(0, used_gb=1))).gpu
    setattr(good, field, None)
    assert gpu == good
    assert odd.kinds == {f"gpu[].{field}"}
    assert str(odd).startswith(f"invalid, so shown as unknown: gpu[0].{field}: ")


def test_a_card_at_the_end_of_what_can_be_is_read() -> None:
    full = gpu_body(0, used_gb=24, utilisation=100, temperature_c=120, power_w=2700)
    sample, odd = read_sidecar(sidecar_body(full))
    (gpu,) = sample.gpu
    assert (gpu.utilisation, gpu.temperature_c, gpu.power_w) == (100, 120, 2700)
    assert not odd


@pytest.mark.parametrize(
    ("changes", "known", "kinds"),
    [
        ({"index": -1}, (None, "GPU-9"), {"gpu[].index"}),
        ({"index": 0.0}, (None, "GPU-9"), {"gpu[].index"}),
        ({"index": None}, (None, "GPU-9"), {"gpu[].index"}),
        ({"index": 2**40}, (None, "GPU-9"), {"gpu[].index"}),
        ({"uuid": None}, (9, None), {"gpu[].uuid"}),
        ({"uuid": ""}, (9, None), {"gpu[].uuid"}),
        ({"uuid": 7}, (9, None), {"gpu[].uuid"}),
        ({"uuid": "a\nb"}, (9, None), {"gpu[].uuid"}),
        ({"vram_total_bytes": "24 GiB"}, (9, "GPU-9"), {"gpu[].vram_total_bytes"}),
        ({"vram_used_bytes": 25 * GIB}, (9, "GPU-9"), {"gpu[].vram_used_bytes"}),
    ],
)
def test_a_card_of_which_too_little_is_known_is_unreadable_and_costs_no_other(
    changes: dict[str, Any], known: tuple[int | None, str | None], kinds: set[str]
) -> None:
    sample, odd = read_sidecar(sidecar_body(gpu_body(0, used_gb=1), gpu_body(9, used_gb=1) | changes))
    assert [gpu.index for gpu in sample.gpu] == [0]
    (unreadable,) = sample.gpu_unreadable
    assert (unreadable.index, unreadable.uuid) == known
    assert unreadable.reason
    assert odd.kinds == kinds


@pytest.mark.parametrize("entry", [1, None, "GPU", [], {}])
def test_an_entry_that_says_nothing_is_a_card_of_which_nothing_is_known(entry: Any) -> None:
    sample = parse_sidecar(sidecar_body(gpu=[gpu_body(0, used_gb=1), entry]))
    assert [gpu.index for gpu in sample.gpu] == [0]
    assert [(gpu.index, gpu.uuid) for gpu in sample.gpu_unreadable] == [(None, None)]
    sample = parse_sidecar(sidecar_body(gpu_body(0, used_gb=1), gpu_unreadable=[entry]))
    assert [gpu.index for gpu in sample.gpu] == [0]
    assert [gpu.reason for gpu in sample.gpu_unreadable] == ["the sidecar gave no reason"]


@pytest.mark.parametrize("kind", [None, "", 7, []])
def test_a_kind_of_memory_that_is_not_told_is_unknown(kind: Any) -> None:
    (gpu,) = parse_sidecar(sidecar_body(gpu_body(0, used_gb=1, memory_kind=kind))).gpu
    assert gpu.memory_kind == "unknown"


@pytest.mark.parametrize(
    "memory",
    [
        {"vram_used_bytes": 25 * GIB, "vram_free_bytes": 0},
        {"vram_used_bytes": 0, "vram_free_bytes": 25 * GIB},
        {"vram_used_bytes": 13 * GIB, "vram_free_bytes": 13 * GIB},
        {"vram_used_bytes": 24 * GIB, "vram_free_bytes": 1},
        {"vram_total_bytes": 0, "vram_used_bytes": 0, "vram_free_bytes": 1},
        {"vram_used_bytes": -1},
        {"vram_free_bytes": 2**60},
    ],
)
def test_a_card_whose_memory_does_not_add_up_is_unreadable_and_costs_no_other(memory: dict[str, int]) -> None:
    sample = parse_sidecar(sidecar_body(gpu_body(0, used_gb=1), gpu_body(1, used_gb=1) | memory))
    assert [gpu.index for gpu in sample.gpu] == [0]
    (unreadable,) = sample.gpu_unreadable
    assert (unreadable.index, unreadable.uuid) == (1, "GPU-1")
    assert "memory" in unreadable.reason


@pytest.mark.parametrize(
    ("cards", "lost", "why"),
    [
        ([(0, "a"), (0, "b"), (1, "c")], [(0, "a"), (0, "b")], "same index"),
        ([(0, "a"), (1, "a"), (2, "c")], [(0, "a"), (1, "a")], "same UUID"),
        ([(0, "a"), (0, "a"), (2, "c")], [(0, "a"), (0, "a")], "same index"),
        ([(7, "a"), (7, "b"), (7, "c")], [(7, "a"), (7, "b"), (7, "c")], "same index"),
    ],
)
def test_cards_that_cannot_be_told_apart_are_unreadable(
    cards: list[tuple[int, str]], lost: list[tuple[int, str]], why: str
) -> None:
    body = sidecar_body(*(gpu_body(index, used_gb=1, uuid=uuid) for index, uuid in cards))
    sample, odd = read_sidecar(body)
    assert [(gpu.index, gpu.uuid) for gpu in sample.gpu] == [card for card in cards if card not in lost]
    assert [(gpu.index, gpu.uuid) for gpu in sample.gpu_unreadable] == lost
    assert all(why in gpu.reason for gpu in sample.gpu_unreadable)
    assert why in str(odd)


@pytest.mark.parametrize("other", [{"index": 0, "uuid": "b"}, {"index": None, "uuid": "GPU-0"}])
def test_a_card_that_is_readable_and_unreadable_at_once_is_unreadable(other: dict[str, Any]) -> None:
    sample = parse_sidecar(
        sidecar_body(gpu_body(0, used_gb=1), gpu_unreadable=[other | {"reason": "NVML: GPU is lost"}])
    )
    assert sample.gpu == ()
    assert [gpu.uuid for gpu in sample.gpu_unreadable] == [other["uuid"], "GPU-0"]


def test_a_description_that_would_act_on_a_terminal_is_escaped() -> None:
    sample = parse_sidecar(
        sidecar_body(
            gpu_body(0, used_gb=1, model="\x1b]0;owned\x07card", memory_kind="uni\u202efied"),
            gpu_unreadable=[{"index": 1, "uuid": None, "reason": "lost\r\n=1+1"}],
        )
    )
    assert (sample.gpu[0].model, sample.gpu[0].memory_kind) == (r"\x1b]0;owned\x07card", r"uni\u202efied")
    assert sample.gpu_unreadable[0].reason == r"lost\x0d\x0a=1+1"


def test_ten_thousand_gpus_are_refused() -> None:
    gpus = [gpu_body(number, used_gb=1) for number in range(10_000)]
    assert refused(parse_sidecar, sidecar_body(*gpus)) == f"gpu: 10000 entries, more than {MAX_GPUS}"
    assert len(parse_sidecar(sidecar_body(*gpus[:MAX_GPUS])).gpu) == MAX_GPUS
