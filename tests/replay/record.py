"""`python -m tests.replay.record [SUBJECT...]` records the answers anew, if they are meant to change."""

import sys
import tempfile
from pathlib import Path

from tests.replay.fleet import running_scene, settle
from tests.replay.old_data import running_on_old_data, running_on_old_hosts
from tests.replay.old_subjects import old_past, old_polled
from tests.replay.recording import Recording, record, save
from tests.replay.subjects import SUBJECTS


def main(names: list[str]) -> None:
    """Record those subjects, or all."""
    wanted = set(names) or {*SUBJECTS, "old_past", "old_polled"}
    if here := [name for name in SUBJECTS if name in wanted]:
        with tempfile.TemporaryDirectory() as folder, running_scene(Path(folder)) as scene:
            for name in here:
                settle(scene)
                _keep(name, record(scene.server.url, SUBJECTS[name](scene), scene.masks))
    if "old_past" in wanted:
        with tempfile.TemporaryDirectory() as folder, running_on_old_data(Path(folder)) as old:
            _keep("old_past", record(old.server.url, old_past(old), old.masks))
    if "old_polled" in wanted:
        with tempfile.TemporaryDirectory() as folder, running_on_old_hosts(Path(folder)) as old:
            _keep("old_polled", record(old.server.url, old_polled(old), old.masks))


def _keep(name: str, answers: Recording) -> None:
    save(name, answers)
    sys.stdout.write(f"{name}: {len(answers)} answers\n")


if __name__ == "__main__":
    main(sys.argv[1:])
