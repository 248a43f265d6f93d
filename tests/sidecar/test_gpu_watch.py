"""What happens to the GPUs while the driver comes and goes, hangs, crashes or is upgraded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sidecar.running import Scenario, Sidecar, card, is_gone, wait_until

Start = Callable[..., Sidecar]
LOST = 15


def readable(*uuids: str) -> Callable[[Any], bool]:
    return lambda sample: bool([gpu["uuid"] for gpu in sample["gpu"]] == list(uuids))


def unreadable(sample: Any) -> bool:
    return not sample["gpu"] and bool(sample["gpu_unreadable"])


def test_a_host_without_driver_has_no_gpus_and_says_so_once(sidecar: Sidecar) -> None:
    sample = sidecar.sample()
    assert (sample["gpu"], sample["gpu_unreadable"]) == ([], [])
    first = sidecar.child()
    wait_until(lambda: is_gone(first) and sidecar.child().pid != first.pid, "the driver is looked for again")
    assert sidecar.log.count("no NVIDIA driver here") == 1


def test_a_library_that_cannot_be_loaded_means_no_driver(start: Start, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    sidecar = start(LD_LIBRARY_PATH=str(tmp_path))
    sample = sidecar.sample()
    assert (sample["gpu"], sample["gpu_unreadable"]) == ([], [])
    wait_until(lambda: "NVML Shared Library Not Found" in sidecar.log, "the reason is in the log")


def test_a_driver_comes_and_goes_and_comes_back(sidecar: Sidecar, scenario: Scenario) -> None:
    assert sidecar.sample()["gpu"] == []
    scenario.show(card(0, "GPU-a"))
    sidecar.sample_when(readable("GPU-a"), "the driver came")
    scenario.show(kernel=None)
    sidecar.sample_when(unreadable, "the driver went")
    sample = sidecar.sample_when(
        lambda sample: sample["gpu_unreadable"][0]["reason"] == "NVML: Driver Not Loaded",
        "the reason is known",
    )
    assert [(gpu["index"], gpu["uuid"]) for gpu in sample["gpu_unreadable"]] == [(0, "GPU-a")]
    scenario.show(card(0, "GPU-a"))
    sample = sidecar.sample_when(readable("GPU-a"), "the driver came back")
    assert sample["gpu_unreadable"] == []


def test_an_upgraded_driver_is_found_by_a_fresh_process(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a"), "the old driver answers")
    scenario.change(kernel="560")
    sample = sidecar.sample_when(unreadable, "library and kernel module no longer match")
    assert sample["gpu_unreadable"][0]["uuid"] == "GPU-a"
    mismatch = "NVML: RM has detected an NVML/RM version mismatch."
    sidecar.sample_when(
        lambda sample: sample["gpu_unreadable"][0]["reason"] == mismatch, "the reason is known"
    )
    scenario.change(library="560")
    sample = sidecar.sample_when(readable("GPU-a"), "the new driver answers")
    assert sample["gpu_unreadable"] == []


def test_a_lone_lost_card_keeps_its_uuid_and_is_found_again(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a"), "the card is there")
    first = sidecar.child()
    scenario.change(**{"0.error": LOST})
    wait_until(lambda: is_gone(first) and sidecar.child().pid != first.pid, "a fresh process tries")
    lost = [{"index": 0, "uuid": "GPU-a", "reason": "NVML: GPU is lost"}]
    assert sidecar.sample()["gpu_unreadable"] == lost
    scenario.change(**{"0.error": None})
    sidecar.sample_when(readable("GPU-a"), "the card is back")


def test_nvml_is_started_again_for_one_lost_card_while_another_is_read(
    start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b", inits=2))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a"), "one card is there")
    child = sidecar.child()
    sidecar.sample_when(readable("GPU-a", "GPU-b"), "the other card is found again")
    assert sidecar.child().pid == child.pid


def test_a_card_that_the_driver_no_longer_lists_is_not_forgotten(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b"))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a", "GPU-b"), "both cards are there")
    scenario.show(card(0, "GPU-b"))
    sample = sidecar.sample_when(readable("GPU-b"), "one card is there")
    reason = "the NVIDIA driver no longer lists this GPU"
    assert sample["gpu"][0]["index"] == 0
    assert sample["gpu_unreadable"] == [{"index": None, "uuid": "GPU-a", "reason": reason}]


def test_a_hanging_driver_makes_the_gpus_unreadable_and_nothing_else(
    start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a"), card(1, "GPU-b", error=LOST))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a"), "the card is there")
    hung = sidecar.child()
    scenario.change(hang="memory_v2")
    sample = sidecar.sample_when(unreadable, "the driver hangs")
    first, second = sample["gpu_unreadable"]
    assert first.pop("reason").startswith("the NVIDIA driver has not answered for over ")
    assert first == {"index": 0, "uuid": "GPU-a"}
    assert second == {"index": 1, "uuid": None, "reason": "NVML: GPU is lost"}
    assert sample["ram_used_bytes"] > 0
    later = sidecar.sample_when(lambda later: later["sampled_at"] > sample["sampled_at"], "CPU and RAM go on")
    assert 0 <= later["cpu_percent"] <= 100
    wait_until(lambda: is_gone(hung), "the hanging process is ended")
    scenario.change(hang=None, **{"1.error": None})
    sidecar.sample_when(readable("GPU-a", "GPU-b"), "the driver answers again")


def test_a_lone_card_that_hung_is_not_left_alone(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a"), "the card is there")
    hung = sidecar.child()
    scenario.change(hang="memory_v2")
    sample = sidecar.sample_when(unreadable, "the driver hangs")
    reason = "the NVIDIA driver has not answered for over 3 s"
    assert sample["gpu_unreadable"] == [{"index": 0, "uuid": "GPU-a", "reason": reason}]
    wait_until(lambda: is_gone(hung) and sidecar.child().pid != hung.pid, "a fresh process tries")
    scenario.change(hang=None)
    sidecar.sample_when(readable("GPU-a"), "the driver answers again")
    assert "is skipped" not in sidecar.log


def test_a_driver_that_hangs_from_the_start_is_told_without_naming_a_gpu(
    start: Start, scenario: Scenario
) -> None:
    scenario.show(card(0, "GPU-a"), hang="init")
    sidecar = start()
    reason = "the NVIDIA driver has not answered for over 3 s"
    assert sidecar.sample()["gpu_unreadable"] == [{"index": None, "uuid": None, "reason": reason}]
    scenario.change(hang=None)
    sidecar.sample_when(readable("GPU-a"), "the driver answers at last")


def test_a_driver_that_crashes_does_not_take_the_sidecar_along(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a"), "the card is there")
    scenario.change(crash="memory_v2")
    sample = sidecar.sample_when(unreadable, "the driver crashes")
    reason = "the process that reads the GPUs ended with status 139"
    assert sample["gpu_unreadable"] == [{"index": 0, "uuid": "GPU-a", "reason": reason}]
    scenario.change(crash=None)
    sidecar.sample_when(readable("GPU-a"), "the driver works again")


def test_a_killed_child_is_replaced(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sidecar = start()
    sidecar.sample_when(readable("GPU-a"), "the card is there")
    first = sidecar.child()
    first.kill()
    sidecar.sample_when(unreadable, "nobody reads the card")
    sidecar.sample_when(readable("GPU-a"), "somebody reads the card again")
    assert sidecar.child().pid != first.pid
