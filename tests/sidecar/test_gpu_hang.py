"""One of eight cards hangs or is slow: only that one is lost, and the others are read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sidecar.running import Scenario, Sidecar, card

Start = Callable[..., Sidecar]
UUIDS = [f"GPU-{number}" for number in range(8)]
BAD = 3
OTHERS = [uuid for uuid in UUIDS if uuid != UUIDS[BAD]]


def eight(**lines: object) -> list[dict[str, object]]:
    """Eight cards; `lines` are of one of them."""
    return [card(at, uuid, **(lines if at == BAD else {})) for at, uuid in enumerate(UUIDS)]


def uuids(sample: Any) -> list[str]:
    return [gpu["uuid"] for gpu in sample["gpu"]]


def only_others(sample: Any) -> bool:
    return uuids(sample) == OTHERS and [gpu["index"] for gpu in sample["gpu"]] == [0, 1, 2, 4, 5, 6, 7]


def unlike(sample: Any, busy: int) -> bool:
    """Whether the other cards have been read since they do `busy` percent."""
    return only_others(sample) and all(gpu["utilisation"] == busy for gpu in sample["gpu"])


@pytest.mark.parametrize("call", ["memory_v2", "handle"])
def test_a_card_that_hangs_costs_itself_and_is_read_again_when_it_answers(
    call: str, start: Start, scenario: Scenario
) -> None:
    scenario.show(*eight())
    sidecar = start()
    assert uuids(sidecar.sample()) == UUIDS
    child = sidecar.child()
    scenario.change(**{f"{BAD}.hang": call})
    seen = []

    def is_lost(sample: Any) -> bool:
        seen.append(uuids(sample))
        return only_others(sample)

    sample = sidecar.sample_when(is_lost, "the card is unreadable")
    assert sample["gpu_unreadable"] == [
        {"index": BAD, "uuid": UUIDS[BAD], "reason": "the NVIDIA driver has not answered for over 3 s"}
    ]
    assert all(set(OTHERS) <= set(one) for one in seen)
    scenario.change(**{f"{uuid[-1]}.gpu": 99 for uuid in OTHERS})
    sidecar.sample_when(lambda sample: unlike(sample, 99), "the others go on being read")
    scenario.change(**{f"{BAD}.hang": None})
    sidecar.sample_when(lambda sample: uuids(sample) == UUIDS, "all cards are read")
    assert sidecar.child().pid == child.pid


def test_a_card_that_hangs_from_the_start_keeps_its_place(start: Start, scenario: Scenario) -> None:
    scenario.show(*eight(hang="uuid"))
    sample = start().sample_when(only_others, "the others are read")
    (unreadable,) = sample["gpu_unreadable"]
    assert (unreadable["index"], unreadable["uuid"]) == (BAD, None)


def test_a_card_that_takes_seconds_holds_up_no_other(start: Start, scenario: Scenario) -> None:
    scenario.show(*eight(slow="power"))
    sidecar = start()
    sidecar.sample_when(only_others, "the others are read at once")
    scenario.change(**{f"{uuid[-1]}.gpu": 98 for uuid in OTHERS})
    sidecar.sample_when(lambda sample: unlike(sample, 98), "the others go on being read", limit_s=3)
    sidecar.sample_when(lambda sample: uuids(sample) == UUIDS, "the slow card is read at last")


def test_two_cards_that_hang_leave_six(start: Start, scenario: Scenario) -> None:
    scenario.show(*eight(hang="mig"), **{"0.hang": "memory_v2"})
    sample = start().sample_when(lambda sample: len(sample["gpu"]) == 6, "six cards are read")
    assert [gpu["index"] for gpu in sample["gpu_unreadable"]] == [0, BAD]


def test_a_card_that_hangs_with_the_lock_of_the_library_is_left_alone(
    start: Start, scenario: Scenario
) -> None:
    scenario.show(*eight(), lock=1)
    sidecar = start()
    assert uuids(sidecar.sample()) == UUIDS
    scenario.change(**{f"{BAD}.hang": "memory_v2"})
    sidecar.sample_when(lambda sample: not sample["gpu"], "no card can be read")
    sample = sidecar.sample_when(only_others, "the others are read by a fresh process")
    assert sample["gpu_unreadable"][0]["uuid"] == UUIDS[BAD]
    assert "skipped" in sample["gpu_unreadable"][0]["reason"]
    scenario.change(**{f"{BAD}.hang": None})
    sidecar.sample_when(lambda sample: uuids(sample) == UUIDS, "the card is tried again")


IN_NAMESPACE = (
    "import os, sys\n"
    "os.execvp('unshare', ['unshare', '--mount', '--map-root-user', 'sh', '-ec', *sys.argv[1:]])\n"
)
MOUNT = """
mount -t tmpfs none "$0" && mkdir "$0/upper" "$0/work" && cp "$3" "$0"
case $1 in /run) mount -t tmpfs none /run ;;
*) mount -t overlay -o "lowerdir=$1,upperdir=$0/upper,workdir=$0/work" none "$1" ;; esac
mkdir -p "$2" && cp "$0/libnvidia-ml.so.1" "$2"
"""


@pytest.mark.parametrize(
    ("above", "folder"), [("/usr/lib", "/usr/lib/wsl/lib"), ("/run", "/run/opengl-driver/lib")]
)
def test_the_library_is_found_where_wsl_and_nixos_have_it(
    above: str, folder: str, start: Start, scenario: Scenario, driver_library: Path, tmp_path: Path
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    words = [str(room), above, folder, str(driver_library / "libnvidia-ml.so.1"), sys.executable]
    tried = subprocess.run(
        [sys.executable, "-c", IN_NAMESPACE, MOUNT, *words], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"needs a mount namespace with an overlay of {above}: {tried.stderr.strip()}")
    scenario.show(card(0, "GPU-a"))
    sidecar = start(["-c", IN_NAMESPACE, f'{MOUNT} exec "$4" -m sidecar', *words], LD_LIBRARY_PATH="")
    assert uuids(sidecar.sample()) == ["GPU-a"]
