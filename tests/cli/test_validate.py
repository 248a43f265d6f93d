"""The command validate on files and folders."""

import json
import os
from pathlib import Path

from tests.running import command

GOOD = "name: one\nrole: r\nhardware: {}\nnetwork: {hostname: 127.0.0.1}\nmodels: []\n"


def test_files_and_folders_are_checked_together(tmp_path: Path) -> None:
    folder, file, bad = tmp_path / "machines", tmp_path / "one.yaml", tmp_path / "bad.yaml"
    folder.mkdir()
    (folder / "two.yaml").write_text(GOOD.replace("one", "two"))
    file.write_text(GOOD)
    bad.write_text("name: bad\n")
    done = command("validate", str(file), str(folder))
    assert (done.returncode, done.stdout) == (0, f"{file} is valid\n1 valid machine files in {folder}\n")
    done = command("validate", str(file), str(bad), str(folder))
    assert done.returncode == 1
    assert f"{bad}:1:1: role: " in done.stdout
    assert f"{bad} is" not in done.stdout
    found = json.loads(command("validate", "--json", str(bad), str(folder)).stdout)
    assert {(one["file"], one["path"]) for one in found} == {("bad.yaml", str(bad))}


def test_a_path_is_printed_once(tmp_path: Path) -> None:
    nowhere = tmp_path / "nosuch"
    done = command("validate", str(nowhere))
    assert done.returncode == 1
    assert done.stdout == f"{nowhere}: there is no such file or folder (error)\n"


def test_a_file_that_the_server_would_not_read_is_a_warning(tmp_path: Path) -> None:
    draft = tmp_path / "one.yaml.draft"
    draft.write_text(GOOD)
    done = command("validate", str(draft))
    assert done.returncode == 0
    assert "the server reads only *.yaml and *.yml" in done.stdout


def test_what_cannot_be_read_is_an_error_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "large.yaml").write_text("#" * (2**20 + 1))
    for name in ("pipe.yaml", "link.yaml", "large.yaml"):
        done = command("validate", str(tmp_path / name))
        assert done.returncode == 1, name
        assert done.stdout.splitlines()[0].startswith(f"{tmp_path / name}: ")
        assert "Traceback" not in done.stderr
