"""Credentials and authorities in their folders: who may read them, and when they are read."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from machines_server.core.machine import Endpoint
from machines_server.credentials.files import RECHECK_S, AccessFiles
from machines_server.errors import NoAccessError
from tests.certificates import authority
from tests.core.machines import a_machine
from tests.credentials.folders import put
from tests.fakes import wait_until

NAMED = Endpoint("ollama", "box.lan", 443, scheme="https", credential="token")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of credentials beside a secret that is not in it."""
    top = Path(tempfile.mkdtemp())
    (top / "outside").write_text("outside")
    (top / "outside").chmod(0o600)
    (top / "secrets").mkdir()
    yield top / "secrets"
    shutil.rmtree(top)


def sent(files: AccessFiles, endpoint: Endpoint = NAMED) -> str | None:
    return files.access(endpoint).authorization


def refusal(files: AccessFiles, endpoint: Endpoint = NAMED) -> str:
    """Why requests to an endpoint cannot be made; does not tell the secret."""
    with pytest.raises(NoAccessError) as caught:
        files.access(endpoint)
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.reason}"
    assert endpoint.credential in (None, "token")
    return caught.value.reason.text


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_that_only_its_owner_can_read_is_sent(folder: Path, mode: int) -> None:
    put(folder, mode=mode)
    assert sent(AccessFiles(folder)) == "Bearer hunter2"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777])
def test_a_file_that_others_can_read_or_write_is_refused_by_its_mode(folder: Path, mode: int) -> None:
    put(folder, mode=mode)
    reason = refusal(AccessFiles(folder))
    assert f"the credential token cannot be used: its mode is {mode:04o}" in reason
    assert "expected mode 0600" in reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(folder: Path) -> None:
    os.chown(put(folder), 12345, -1)
    assert "belongs to another user" in refusal(AccessFiles(folder))


def test_what_is_no_file_or_not_there_is_refused(folder: Path) -> None:
    assert "there is no such file" in refusal(AccessFiles(folder))
    assert "MACHINES_CREDENTIALS_DIR is not set" in refusal(AccessFiles())
    assert "there is no such file" in refusal(AccessFiles(folder / "nowhere"))
    (folder / "token").mkdir(mode=0o700)
    assert "not a regular file" in refusal(AccessFiles(folder))
    (folder / "token").rmdir()
    os.mkfifo(folder / "token", 0o600)  # reading it would wait for ever
    assert "not a regular file" in refusal(AccessFiles(folder))


def test_a_link_may_lead_within_the_folder_but_not_out_of_it(folder: Path) -> None:
    (folder / "real").mkdir()
    put(folder / "real")
    (folder / "token").symlink_to("real/token")
    assert sent(AccessFiles(folder)) == "Bearer hunter2"
    (folder / "token").unlink()
    (folder / "token").symlink_to("../outside")
    assert "a link that leaves the folder" in refusal(AccessFiles(folder))


@pytest.mark.parametrize("replace", [put, lambda folder, text: (folder / "token").write_text(text)])
def test_a_changed_file_is_read_again_and_a_removed_one_is_not_sent(
    folder: Path, replace: Callable[[Path, str], object]
) -> None:
    files = AccessFiles(folder)
    put(folder, "first1")
    assert sent(files) == "Bearer first1"
    for secret in ("second", "thirdd", "fourth"):  # as long as the first, within one tick of the clock
        replace(folder, secret)
        wait_until(partial(_sends, files, secret), 5)
    (folder / "token").chmod(0o644)
    wait_until(lambda: _is_refused(files), 5)
    (folder / "token").chmod(0o600)
    wait_until(lambda: not _is_refused(files), 5)
    (folder / "token").unlink()
    wait_until(lambda: _is_refused(files), 5)


def _sends(files: AccessFiles, secret: str) -> bool:
    return sent(files) == f"Bearer {secret}"


def _is_refused(files: AccessFiles) -> bool:
    try:
        files.access(NAMED)
    except NoAccessError:
        return True
    return False


def test_a_file_that_is_named_often_is_checked_once_in_a_while(folder: Path) -> None:
    path = put(folder)
    os.utime(path, ns=(1, 1))
    files = AccessFiles(folder)
    one = sent(files)
    path.unlink()
    assert sent(files) is one  # within RECHECK_S, without a look at the disk
    assert RECHECK_S < 0.5  # so that the next cycle uses what has changed, whatever its interval
    wait_until(lambda: _is_refused(files), 5)


def test_authorities_may_be_read_by_all_but_written_by_us_alone(folder: Path, tmp_path: Path) -> None:
    pem = authority(tmp_path).read_text()
    endpoint = Endpoint("ollama", "box.lan", 443, scheme="https", ca="own.pem")
    files = AccessFiles(None, folder)
    with pytest.raises(NoAccessError, match=r"CA certificate file own\.pem cannot be used: there is no such"):
        files.access(endpoint)
    put(folder, pem, 0o644, "own.pem")
    wait_until(lambda: not _is_unusable(files, endpoint), 5)
    assert files.access(endpoint) == (None, pem.encode())
    put(folder, pem, 0o664, "own.pem")
    wait_until(lambda: _is_unusable(files, endpoint), 5)


def _is_unusable(files: AccessFiles, endpoint: Endpoint) -> bool:
    return bool(list(files.problems([a_machine(endpoints={"ollama": endpoint})])))


def test_each_machine_has_a_problem_for_each_file_that_cannot_be_used(folder: Path) -> None:
    both = Endpoint("ollama", "box.lan", 443, scheme="https", credential="token", ca="own.pem")
    plain = Endpoint("ollama", "box.lan", 443)
    put(folder)
    machines = [
        a_machine("a", endpoints={"ollama": both}),
        a_machine("b", endpoints={"ollama": NAMED}),
        a_machine("c", endpoints={"ollama": plain}),
    ]
    assert [(one.file, one.key) for one in AccessFiles(folder).problems(machines)] == [
        ("a.yaml", "network.ca")
    ]
    found = [(one.file, one.key, one.severity) for one in AccessFiles().problems(machines)]
    assert found == [("a.yaml", "network.ca", "error"), ("b.yaml", "network.credential", "error")]
