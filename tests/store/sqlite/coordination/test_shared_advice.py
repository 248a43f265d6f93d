"""Processes share their advice through a file that nothing depends on."""

import subprocess
import sys
import time
from pathlib import Path

from machines_server.core.routing.advised import Advice
from machines_server.store.sqlite.coordination.shared_advice import MAX_FILE_BYTES, SharedAdvice

ANOTHER = """
import sys, time
from pathlib import Path
from machines_server.core.routing.advised import Advice
from machines_server.store.sqlite.coordination.shared_advice import SharedAdvice
for number in range(int(sys.argv[2])):
    SharedAdvice(Path(sys.argv[1])).add(Advice(f"m{number}", "llama", time.time(), 8.0))
"""


def advised_elsewhere(path: Path, count: int = 1) -> None:
    subprocess.run([sys.executable, "-c", ANOTHER, str(path), str(count)], check=True, timeout=60)


def machines(board: SharedAdvice) -> list[str]:
    return [advice.machine for advice in board.news()]


def test_others_are_told_and_oneself_is_not(tmp_path: Path) -> None:
    path = tmp_path / "var" / "advised"
    board = SharedAdvice(path)
    assert machines(board) == []
    board.add(Advice("mine", "llama", time.time(), 8.0))
    assert machines(board) == []
    advised_elsewhere(path, 2)
    assert machines(board) == ["m0", "m1"]
    assert machines(board) == []
    advised_elsewhere(path)
    (advice,) = board.news()
    assert (advice.machine, advice.model, advice.loads_s) == ("m0", "llama", 8.0)
    assert path.stat().st_mode & 0o077 == 0


def test_the_file_is_bounded_and_may_be_emptied_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "advised"
    board = SharedAdvice(path)
    advised_elsewhere(path, 3000)
    assert path.stat().st_size < MAX_FILE_BYTES + 200
    assert board.news()
    path.unlink()
    advised_elsewhere(path)
    assert machines(board)[-1] == "m0"


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "advised"
    path.write_bytes(b'\xff\n[1]\n{}\n[1,"m","x","y",3]\n[1,"m","x",3,null]\n[1,"half"')
    board = SharedAdvice(path)
    assert machines(board) == []
    with path.open("ab") as file:
        file.write(f',"llama",{time.time()},8.0]\n'.encode())
    assert machines(board) == ["half"]


def test_a_line_that_was_never_finished_is_not_read_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "advised"
    path.write_text(f'[1,"m","llama",{time.time()},8.0]\n[1,"half"')
    board = SharedAdvice(path)
    assert machines(board) == ["m"]
    assert machines(board) == []


def test_where_no_file_can_be_made_nobody_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    board = SharedAdvice(tmp_path / "file" / "advised")
    board.add(Advice("mine", "llama", time.time(), 8.0))
    assert machines(board) == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
