"""The answers of a running server are those that an earlier version gave."""

from collections.abc import Iterator

import pytest

from tests.replay.fleet import running_scene, settle
from tests.replay.recording import HOW_TO_RECORD, compare, load
from tests.replay.scene import Scene
from tests.replay.subjects import SUBJECTS


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_scene(tmp_path_factory.mktemp("replay")) as running:
        yield running


@pytest.mark.parametrize("name", SUBJECTS)
def test_answers_are_as_they_were_recorded(scene: Scene, name: str) -> None:
    settle(scene)
    found = compare(scene.server.url, SUBJECTS[name](scene), scene.masks, load(name))
    assert not found, "\n".join([f"{len(found)} differences; {HOW_TO_RECORD} {name}", *found[:40]])
