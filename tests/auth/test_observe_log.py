"""The log of what would be refused has a ceiling."""

from pathlib import Path

import msgspec

from machines_server.auth.observe_log import MAX_LINES_PER_S, MAX_LOG_BYTES, ObserveLog


def test_lines_beyond_the_rate_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "below" / "observed.log"
    log, asked = ObserveLog(path), 20 * MAX_LINES_PER_S
    for number in range(asked):
        log.add("GET", f"/{number}", "missing_headers", None)
    lines: list[dict[str, int]] = []
    while not any("more_like_it" in line for line in lines):  # until the next second
        log.add("GET", "/last", "missing_headers", None)
        asked += 1
        lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert len(lines) + sum(line.get("more_like_it", 0) for line in lines) == asked
    assert len(lines) < asked / 2


def test_a_full_file_is_kept_as_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "observed.log"
    path.write_bytes(b"x" * MAX_LOG_BYTES)
    log = ObserveLog(path)
    log.add("GET", "/a", "bad_signature", "me")
    log.add("GET", "/b", "bad_signature", "me")
    assert (tmp_path / "observed.log.1").stat().st_size > MAX_LOG_BYTES
    assert len(path.read_bytes().splitlines()) == 1


def test_a_line_has_no_control_characters_and_is_short(tmp_path: Path) -> None:
    path = tmp_path / "observed.log"
    ObserveLog(path).add("GET\x1b", "/" + "x" * 5000 + "\x9b\u202e", "malformed", "me\n\x07" * 500)
    (line,) = path.read_bytes().splitlines()
    assert len(line) < 1000
    assert msgspec.json.decode(line)["method"] == "GET\\x1b"


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ObserveLog(tmp_path / "file" / "observed.log").add("GET", "/", "malformed", None)
