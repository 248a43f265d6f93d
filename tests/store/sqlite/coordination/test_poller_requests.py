"""The file with requests to the poller: private, bounded, and not essential."""

from pathlib import Path

from machines_server.core.model_names import model_key
from machines_server.store.sqlite.coordination.poller_requests import MAX_FILE_BYTES, PollerRequests
from machines_server.store.values import Requested


def test_only_the_owner_can_read_the_file_and_each_request_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "var" / "wanted"
    for name in ("Mine", "mine:latest", "hf.co/a/b:Q4"):
        PollerRequests(path).look_for(name)
    PollerRequests(path).poll_soon(["one", "two"])
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text().count("\n") == 4


def test_what_was_taken_can_be_asked_again_at_once(tmp_path: Path) -> None:
    requests = PollerRequests(tmp_path / "wanted")
    for _ in range(2):
        for _ in range(3):
            requests.poll_soon(["one"])
            requests.look_for("mine")
        assert (tmp_path / "wanted").read_text().count("\n") == 2
        assert requests.take() == Requested(frozenset({model_key("mine")}), ("one",))


def test_the_file_is_bounded(tmp_path: Path) -> None:
    requests = PollerRequests(tmp_path / "wanted")
    for number in range(4000):
        requests.look_for(f"{'m' * 60}{number}")
    assert (tmp_path / "wanted").stat().st_size < MAX_FILE_BYTES + 200
    assert len(requests.take().models) > 500


def test_where_no_file_can_be_made_nothing_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    requests = PollerRequests(tmp_path / "file" / "wanted")
    requests.look_for("mine")
    requests.poll_soon(["one"])
    assert requests.is_empty()
    assert requests.take() == Requested()


def test_what_others_write_into_the_file_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "wanted"
    path.write_bytes(b"\xff\x00 model\nmodel\nmachine \n\nmodel a b\nmachine one")
    assert PollerRequests(path).take() == Requested(frozenset({"", "a b"}), ("", "one"))
