"""Processes share their advice through a file that nothing depends on."""

import subprocess
import sys
import time
from pathlib import Path

from machines_server.core.routing.advised import Advice
from machines_server.store.sqlite.coordination.shared_advice import MAX_FILE_BYTES, MAX_OTHERS, SharedAdvice

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
    return [advice.machine for advice in board.others()]


def test_others_are_told_and_oneself_is_not(tmp_path: Path) -> None:
    path = tmp_path / "var" / "advised"
    board = SharedAdvice(path)
    assert machines(board) == []
    board.add(Advice("mine", "llama", time.time(), 8.0))
    assert machines(board) == []
    advised_elsewhere(path, 2)
    assert machines(board) == ["m0", "m1"]
    advised_elsewhere(path)
    assert machines(board) == ["m1", "m0"]
    assert path.stat().st_mode & 0o077 == 0
    (first, *_) = board.others()
    assert (first.model, first.loads_s) == ("llama", 8.0)


def test_the_file_is_bounded_and_may_be_emptied_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "advised"
    board = SharedAdvice(path)
    advised_elsewhere(path, 3000)
    assert path.stat().st_size < MAX_FILE_BYTES + 200
    assert board.others()
    path.unlink()
    advised_elsewhere(path)
    assert machines(board)[-1] == "m0"


def test_damaged_lines_are_passed_over_and_old_ones_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "advised"
    old = f'[1,"old","llama",{time.time() - 10_000},8.0]\n'.encode()
    path.write_bytes(b'\xff\n[1]\n{}\n[1,"m","x","y",3]\n[1,"m","x",3,null]\n' + old + b'[1,"half"')
    board = SharedAdvice(path)
    assert machines(board) == []
    with path.open("ab") as file:
        file.write(f',"llama",{time.time()},8.0]\n'.encode())
    assert machines(board) == ["half"]


def test_of_many_the_latest_are_remembered(tmp_path: Path) -> None:
    path, now = tmp_path / "advised", time.time()
    lines = [f'[1,"m{number % 2000}","llama",{now},8.0]\n' for number in range(6000)]
    board = SharedAdvice(path)
    for begin in range(0, 6000, 1000):
        with path.open("a") as file:
            file.writelines(lines[begin : begin + 1000])
        assert machines(board)[-1] == f"m{(begin + 999) % 2000}"
        assert len(machines(board)) <= MAX_OTHERS


def test_a_line_that_was_never_finished_is_not_read_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "advised"
    path.write_text(f'[1,"m","llama",{time.time()},8.0]\n[1,"half"')
    board = SharedAdvice(path)
    others = board.others()
    assert machines(board) == ["m"]
    assert board.others() is others


def test_where_no_file_can_be_made_nobody_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    board = SharedAdvice(tmp_path / "file" / "advised")
    board.add(Advice("mine", "llama", time.time(), 8.0))
    assert board.others() == ()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
