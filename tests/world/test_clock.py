"""The wall clock of the server is set while it runs: polling goes on, and no history is lost."""

import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes import FakeFleet
from tests.world.scene import INTERVAL_S, declare, scene, tell

HOUR_S, DAY_S = 3600, 86_400

pytestmark = pytest.mark.slow


class Clock:
    """The wall clock of a process that runs with `environment`."""

    def __init__(self, folder: Path) -> None:
        library, self._offset = folder / "clock.so", folder / "offset"
        source = Path(__file__).with_name("clock.c")
        words = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"]
        subprocess.run(words, check=True)
        self._offset.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def set(self, by_s: int) -> None:
        """Let it be ahead of ours by so much from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("=q", by_s))


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S, DAY_S, -DAY_S])
def test_the_wall_clock_is_set(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str], step_s: int
) -> None:
    hosts, clock = declare(tmp_path, fakes), Clock(tmp_path)
    with scene(tmp_path, hosts, **clock.environment) as seen:
        time.sleep(2 * INTERVAL_S)
        before = seen.note_committed()
        began = time.monotonic()
        clock.set(step_s)
        word = seen.wait_for_word(f"the wall clock was set by {step_s:+} s", began, 10)
        noticed = time.monotonic()
        well_s = seen.wait_until_well(noticed)
        time.sleep(5 * INTERVAL_S)
        assert seen.server.get("/health").json()["poller"]["message"] is None
        assert f"the wall clock was set by {step_s:+} s" in seen.server.log.read_text()
        gap_s = seen.longest_gap_s(began)
        assert gap_s <= 3 * INTERVAL_S
        assert seen.watch.failures == []
        assert seen.note_committed() > before
        (machine, *_) = seen.server.fleet().values()
        stamped = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() + step_s))
        assert machine["sampled_at"].startswith(stamped)
        clock.set(0)  # and back
        back = time.monotonic()
        seen.wait_for_word(f"the wall clock was set by {-step_s:+} s", back, 10)
        seen.wait_until_well(back)
        tell(
            capsys,
            f"clock set by {step_s:+} s: {word!r}, well {well_s:.1f} s after it was noticed, shown meanwhile"
            f" {sorted(seen.watch.seen(began))}, no host unasked for more than {gap_s:.1f} s",
        )
