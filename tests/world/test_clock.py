"""The wall clock of the server is set while it runs: polling goes on, and no history is lost."""

import time
from pathlib import Path

import psutil
import pytest

from tests.fakes import FakeFleet
from tests.world.clock import Clock
from tests.world.scene import INTERVAL_S, declare, scene, tell

HOUR_S, DAY_S, YEAR_S = 3600, 86_400, 365 * 86_400
MORE_BYTES = 60 * 2**20
"""What the polling process may grow by while the clock is set."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "step_s",
    [
        HOUR_S,
        *(pytest.param(step_s, marks=pytest.mark.long) for step_s in (-HOUR_S, DAY_S, -DAY_S)),
        20 * YEAR_S,
        -50 * YEAR_S,
    ],
)
def test_the_wall_clock_is_set(
    tmp_path: Path, fakes: FakeFleet, capsys: pytest.CaptureFixture[str], step_s: int
) -> None:
    hosts, clock = declare(tmp_path, fakes), Clock(tmp_path)
    with scene(tmp_path, hosts, **clock.environment) as seen:
        time.sleep(2 * INTERVAL_S)
        before = seen.note_committed()
        poller = psutil.Process(seen.server.poller_pid())
        resident = poller.memory_info().rss
        began = time.monotonic()
        clock.set(step_s)
        word = seen.wait_for_word(f"the wall clock was changed by {step_s:+} s", began, 10)
        noticed = time.monotonic()
        well_s = seen.wait_until_well(noticed)
        time.sleep(5 * INTERVAL_S)
        assert seen.server.get("/health").json()["poller"]["message"] is None
        assert f"the wall clock was changed by {step_s:+} s" in seen.server.log.read_text()
        gap_s = seen.longest_gap_s(began)
        assert gap_s <= 3 * INTERVAL_S
        assert seen.watch.failures == []
        assert seen.note_committed() > before
        (machine, *_) = seen.server.fleet().values()
        stamped = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() + step_s))
        assert machine["sampled_at"].startswith(stamped)
        clock.set(0)  # and back
        back = time.monotonic()
        seen.wait_for_word(f"the wall clock was changed by {-step_s:+} s", back, 10)
        seen.wait_until_well(back)
        more = poller.memory_info().rss - resident
        assert more < MORE_BYTES
        tell(
            capsys,
            f"clock set by {step_s:+} s: {word!r}, well {well_s:.1f} s after it was noticed, shown meanwhile"
            f" {sorted(seen.watch.seen(began))}, no host unasked for more than {gap_s:.1f} s,"
            f" the polling process has grown by {more / 2**20:.1f} MiB",
        )
