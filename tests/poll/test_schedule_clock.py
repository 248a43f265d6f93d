"""A poller goes on however the wall clock is set."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.bodies import http, ollama_body, tags_body
from tests.fakes import FakeFleet, wait_until
from tests.running import clean_environment
from tests.world.clock import Clock

TAGS = "/api/tags"
DAY_S, YEAR_S = 86_400, 365 * 86_400


@pytest.mark.parametrize("steps_s", [(-2, 7, -50 * YEAR_S, 20 * YEAR_S), (20 * YEAR_S, -DAY_S)])
def test_however_the_wall_clock_is_set_both_jobs_go_on_and_nothing_is_made_up_for(
    tmp_path: Path, fakes: FakeFleet, steps_s: tuple[int, ...]
) -> None:
    ollama, clock, output = fakes.ollama(), Clock(tmp_path), tmp_path / "output"
    ollama.answers[TAGS] = http(tags_body())
    words = [sys.executable, "-m", "tests.poll.leader", str(tmp_path / "lock"), "0.5", str(ollama.port)]
    with output.open("ab") as out:
        process = subprocess.Popen(words, stdout=out, env=clean_environment(**clock.environment))

    def asked_again(before: int) -> bool:
        return ollama.asked("/api/ps") >= before + 5

    try:
        wait_until(lambda: "library" in output.read_text())
        resident = psutil.Process(process.pid).memory_info().rss
        for step_s in steps_s:
            asked, began = ollama.asked("/api/ps"), time.monotonic()
            clock.set(step_s)
            wait_until(partial(asked_again, asked))
            assert ollama.asked("/api/ps") - asked <= (time.monotonic() - began) / 0.5 + 3
        ollama.answers[TAGS] = http(tags_body(("new:1", "d", 1)))
        ollama.answer = http(ollama_body("new:1"))  # a reason to look at the disk
        wait_until(lambda: output.read_text().count("library") > 1)
        assert psutil.Process(process.pid).memory_info().rss - resident < 40 * 2**20
    finally:
        process.terminate()
        assert process.wait(10) == 0
