"""What the sidecar reads from one state of the hardware."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sidecar.running import GIB, Scenario, Sidecar, card

Start = Callable[..., Sidecar]
LOST, NOT_SUPPORTED, NO_PERMISSION, UNKNOWN = 15, 3, 4, 999
UNIFIED = {"total": None, "compute": "", "graphics": ""}


def test_a_card_is_read_in_full(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sample = start().sample()
    assert sample["gpu"] == [
        {
            "index": 0,
            "uuid": "GPU-a",
            "model": "NVIDIA Stand-in",
            "memory_kind": "dedicated",
            "vram_total_bytes": 24 * GIB,
            "vram_used_bytes": 4 * GIB,
            "vram_free_bytes": 24 * GIB - 4 * GIB - GIB // 2,
            "utilisation": 47,
            "temperature_c": 61,
            "power_w": 212.5,
        }
    ]
    assert sample["gpu_unreadable"] == []


def test_zero_means_zero(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a", used=0, free=0, gpu=0, temperature=0, power=0))
    (gpu,) = start().sample()["gpu"]
    assert [gpu[key] for key in ("vram_used_bytes", "vram_free_bytes", "utilisation", "temperature_c")] == [
        0
    ] * 4
    assert gpu["power_w"] == 0


def test_what_a_card_does_not_tell_is_null(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a", gpu=None, temperature=None, power=None, name=None))
    (gpu,) = start().sample()["gpu"]
    assert [gpu[key] for key in ("utilisation", "temperature_c", "power_w", "model")] == [None] * 4
    assert gpu["vram_used_bytes"] == 4 * GIB


def test_one_lost_card_leaves_the_others_readable_and_keeps_its_place(
    start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b"), card(2, "GPU-c"))
    sidecar = start()
    assert [gpu["uuid"] for gpu in sidecar.sample()["gpu"]] == ["GPU-a", "GPU-b", "GPU-c"]
    scenario.change(**{"1.error": LOST})
    sample = sidecar.sample_when(lambda sample: sample["gpu_unreadable"] != [], "a card is lost")
    assert [(gpu["index"], gpu["uuid"]) for gpu in sample["gpu"]] == [(0, "GPU-a"), (2, "GPU-c")]
    assert sample["gpu_unreadable"] == [{"index": 1, "uuid": "GPU-b", "reason": "NVML: GPU is lost"}]


def test_a_card_lost_before_the_start_has_no_uuid(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b", error=LOST))
    sample = start().sample()
    assert sample["gpu_unreadable"] == [{"index": 1, "uuid": None, "reason": "NVML: GPU is lost"}]


@pytest.mark.parametrize("call", ["uuid", "memory_v2", "mig", "handle"])
def test_a_card_without_uuid_or_memory_is_unreadable(call: str, start: Start, scenario: Scenario) -> None:
    failing = {f"{call}.error": UNKNOWN, **({"memory.error": UNKNOWN} if call == "memory_v2" else {})}
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b", **failing))
    sample = start().sample()
    assert [gpu["uuid"] for gpu in sample["gpu"]] == ["GPU-a"]
    assert [(gpu["index"], gpu["reason"]) for gpu in sample["gpu_unreadable"]] == [(1, "NVML: Unknown Error")]


def test_mig_devices_stand_in_the_place_of_their_card(start: Start, scenario: Scenario) -> None:
    parts = (
        card("0.mig.0", "MIG-1", total=10 * GIB, free=5 * GIB, gpu=None),
        card("0.mig.4", "MIG-2", gpu=None),
    )
    split = card(0, "GPU-a", mig=1, **{"mig.max": 7})
    scenario.show({**split, **parts[0], **parts[1]}, card(1, "GPU-b", mig=0))
    sample = start().sample()
    assert [(gpu["index"], gpu["uuid"], gpu["utilisation"]) for gpu in sample["gpu"]] == [
        (0, "MIG-1", None),
        (1, "MIG-2", None),
        (2, "GPU-b", 47),
    ]
    assert sample["gpu"][0]["vram_total_bytes"] == 10 * GIB


def test_one_mig_device_that_fails_leaves_the_other_readable(start: Start, scenario: Scenario) -> None:
    parts = card("0.mig.0", "MIG-1", error=NO_PERMISSION), card("0.mig.1", "MIG-2", total=None)
    scenario.show(card(0, "GPU-a", mig=1, **{"mig.max": 7}) | parts[0] | parts[1] | card("0.mig.2", "MIG-3"))
    sample = start().sample()
    assert [(gpu["index"], gpu["uuid"]) for gpu in sample["gpu"]] == [(2, "MIG-3")]
    assert [(gpu["index"], gpu["uuid"]) for gpu in sample["gpu_unreadable"]] == [(0, None), (1, "MIG-2")]
    assert sample["gpu_unreadable"][0]["reason"] == "NVML: Insufficient Permissions"


def test_mig_without_instances_says_so(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a", mig=1, **{"mig.max": 7}))
    sample = start().sample()
    reason = "MIG is on, but there are no MIG instances"
    assert sample["gpu_unreadable"] == [{"index": 0, "uuid": "GPU-a", "reason": reason}]


@pytest.mark.parametrize("total", [None, 0])
def test_a_card_without_memory_of_its_own_shares_the_systems(
    total: int | None, start: Start, scenario: Scenario
) -> None:
    shared = {**UNIFIED, "total": total, "compute": "7:100 8:200", "graphics": "8:200 9:50"}
    scenario.show(card(0, "GPU-a", **shared))
    (gpu,) = start().sample()["gpu"]
    system = psutil.virtual_memory()
    assert gpu["memory_kind"] == "unified"
    assert gpu["vram_total_bytes"] == system.total
    assert gpu["vram_used_bytes"] == 350
    assert 0 < gpu["vram_free_bytes"] <= system.total - 350


def test_an_idle_card_with_unified_memory_uses_nothing(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a", **UNIFIED))
    assert start().sample()["gpu"][0]["vram_used_bytes"] == 0


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ({"compute": "7:none"}, "unified memory, and what process 7 uses is unknown"),
        ({"graphics": None}, "unified memory, and its processes are unknown (NVML: Not Supported)"),
        ({"compute.error": UNKNOWN}, "NVML: Unknown Error"),
    ],
)
def test_unified_memory_of_unknown_use_is_unreadable(
    lines: dict[str, Any], reason: str, start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a", **{**UNIFIED, **lines}))
    sample = start().sample()
    assert sample["gpu"] == []
    assert sample["gpu_unreadable"] == [{"index": 0, "uuid": "GPU-a", "reason": reason}]


def test_a_memory_error_never_means_unified(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a", **{**UNIFIED, "memory_v2.error": NO_PERMISSION}))
    sample = start().sample()
    assert sample["gpu"] == []
    assert sample["gpu_unreadable"][0]["reason"] == "NVML: Insufficient Permissions"


@pytest.mark.parametrize("error", [NOT_SUPPORTED, UNKNOWN, NO_PERMISSION])
def test_a_card_that_fails_only_at_the_new_memory_call_is_asked_with_the_old(
    error: int, start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a", **{"memory_v2.error": error}))
    (gpu,) = start().sample()["gpu"]
    assert (gpu["memory_kind"], gpu["vram_used_bytes"]) == ("dedicated", 4 * GIB + GIB // 2)


def test_an_older_driver_is_asked_with_the_calls_it_has(
    start: Start, scenario: Scenario, old_driver_library: Path
) -> None:
    scenario.show(card(0, "GPU-a"))
    (gpu,) = start(**replace(scenario, library=old_driver_library).environ).sample()["gpu"]
    assert (gpu["memory_kind"], gpu["vram_total_bytes"]) == ("dedicated", 24 * GIB)
    assert gpu["vram_used_bytes"] == 4 * GIB + GIB // 2
    assert gpu["temperature_c"] == 61


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"gpu": 101}, "utilisation"),
        ({"gpu": 808334905}, "utilisation"),
        ({"temperature": 4294967295}, "temperature_c"),
        ({"temperature": 255}, "temperature_c"),
        ({"power": 4294967295}, "power_w"),
        ({"name": ""}, "model"),
    ],
)
def test_a_reading_that_cannot_be_is_null_and_said_once(
    said: dict[str, Any], key: str, start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b", **said))
    sidecar = start()
    sample = sidecar.sample()
    good, odd = sample["gpu"]
    assert odd == good | {"index": 1, "uuid": "GPU-b", key: None}
    assert sample["gpu_unreadable"] == []
    sidecar.sample_when(lambda later: later["sampled_at"] > sample["sampled_at"], "another sample")
    assert sidecar.log.count(f"its {key} is impossible") == 1


@pytest.mark.parametrize(
    ("memory", "free"),
    [({"used": 25 * GIB}, 0), ({"free": 25 * GIB}, 0), ({"used": 2**64 - 1, "free": 2**64 - 1}, 0)],
)
def test_a_card_with_more_memory_in_use_than_there_is_is_unreadable(
    memory: dict[str, int], free: int, start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b", **{"free": free} | memory))
    sample = start().sample()
    assert [gpu["uuid"] for gpu in sample["gpu"]] == ["GPU-a"]
    assert [(gpu["index"], gpu["uuid"]) for gpu in sample["gpu_unreadable"]] == [(1, "GPU-b")]
    assert "more used and free memory" in sample["gpu_unreadable"][0]["reason"]


@pytest.mark.parametrize("uuid", ["GPU-a", ""])
def test_cards_that_cannot_be_told_apart_are_unreadable(uuid: str, start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, uuid), card(1, "GPU-b"), card(2, uuid))
    sample = start().sample()
    assert [gpu["uuid"] for gpu in sample["gpu"]] == ["GPU-b"]
    assert [(gpu["index"], gpu["uuid"]) for gpu in sample["gpu_unreadable"]] == [
        (0, uuid or None),
        (2, uuid or None),
    ]
