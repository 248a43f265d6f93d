"""A data folder of an earlier version keeps its past: the answers are those that version gave."""

from pathlib import Path

from tests.replay.old_data import running_on_old_data, running_on_old_hosts
from tests.replay.old_subjects import old_past, old_polled
from tests.replay.recording import HOW_TO_RECORD, compare, load


def test_the_past_of_an_old_data_folder_is_answered_as_before(tmp_path: Path) -> None:
    with running_on_old_data(tmp_path) as old:
        found = compare(old.server.url, old_past(old), old.masks, load("old_past"))
    assert not found, "\n".join([f"{len(found)} differences; {HOW_TO_RECORD} old_past", *found[:40]])


def test_hosts_go_on_from_what_an_old_data_folder_knows_of_them(tmp_path: Path) -> None:
    with running_on_old_hosts(tmp_path) as old:
        found = compare(old.server.url, old_polled(old), old.masks, load("old_polled"))
    assert not found, "\n".join([f"{len(found)} differences; {HOW_TO_RECORD} old_polled", *found[:40]])
