"""What `doctor` says about the folders of credentials and authorities, and about mismatched certificates."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from machines_server.cli.doctor_of_credentials import check_authorities, check_credentials
from machines_server.cli.finding import Check
from tests.bodies import http
from tests.certificates import authority, certificate_for, expired_for, signed
from tests.credentials.folders import put
from tests.fakes import FakeFleet
from tests.running import command


def findings(checks: list[Check]) -> list[tuple[str, str]]:
    return [(check.verdict, check.finding) for check in checks]


def test_good_folders_are_counted_and_those_that_are_not_set_are_not_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    put(tmp_path)
    (tmp_path / ".hidden").write_text("")
    assert findings([*check_credentials(tmp_path)]) == [("ok", f"1 in {tmp_path}")]
    assert [*check_credentials(None), *check_authorities(None, 0)] == []


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_into_is_an_error(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    for check in (check_credentials(tmp_path), check_authorities(tmp_path, 0)):
        ((verdict, finding),) = findings([*check])
        assert verdict == "error"
        assert f"(mode {mode:04o}) lets other users replace its files" in finding


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (check,) = check_credentials(tmp_path / "nowhere")
    assert (check.verdict, check.hint) == ("error", "see MACHINES_CREDENTIALS_DIR")


def test_each_file_that_cannot_be_used_is_told_even_if_no_machine_names_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    put(tmp_path, "hunter2", 0o644, "open")
    put(tmp_path, "", name="empty")
    put(tmp_path, "hunter2", name="good")
    (tmp_path / "folder").mkdir()
    found = findings([*check_credentials(tmp_path)])
    assert [verdict for verdict, _ in found] == ["error", "error"]
    assert "empty cannot be used: its first line is empty" in found[0][1]
    assert "open cannot be used: its mode is 0644" in found[1][1]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("days_on", "verdict", "words"),
    [
        (0, "ok", "1 in "),
        (25, "ok", "1 in "),
        (27, "warning", "own.pem: authority expires soon, on 2"),
        (41, "error", "own.pem: authority has expired, on 2"),
    ],
)
def test_an_authority_that_expires_is_told_two_weeks_before(
    tmp_path: Path, days_on: int, verdict: str, words: str
) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "authorities").mkdir(mode=0o700)
    pem = authority(tmp_path / "made", days=40).read_text()
    put(tmp_path / "authorities", pem, 0o644, "own.pem")
    ((found, finding),) = findings(
        [*check_authorities(tmp_path / "authorities", time.time() + days_on * 86_400)]
    )
    assert (found, words in finding) == (verdict, True), finding


def test_a_file_of_authorities_that_is_none_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    put(tmp_path, "no certificate", 0o644, "own.pem")
    ((verdict, finding),) = findings([*check_authorities(tmp_path, 0)])
    assert verdict == "error"
    assert "own.pem cannot be used: it has no valid PEM certificate" in finding


def _elsewhere(folder: Path, by: Path) -> Path:
    return certificate_for(folder, by, "DNS:elsewhere.example")


def _by_another(folder: Path, _by: Path) -> Path:
    return certificate_for(folder, authority(folder / "other"), "IP:127.0.0.1")


def _expired(folder: Path, by: Path) -> Path:
    return expired_for(folder, by, "IP:127.0.0.1")


@pytest.mark.parametrize(
    ("make", "reason", "hint"),
    [
        (_elsewhere, "its certificate is for another name or address", "a name that is in its certificate"),
        (_by_another, "not issued by a CA that is trusted here", "is not in own.pem in MACHINES_CA_DIR"),
        (_expired, "its certificate has expired", "renew it on that host"),
    ],
)
def test_a_certificate_that_does_not_fit_is_told_with_what_to_do(
    tmp_path: Path,
    fakes: FakeFleet,
    make: Callable[[Path, Path], Path],
    reason: str,
    hint: str,
) -> None:
    made, machines, authorities = tmp_path / "made", tmp_path / "machines", tmp_path / "authorities"
    trusted = authority(made)
    context = signed(made, trusted, "IP:127.0.0.1")
    certificate = make(made, trusted)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    host = fakes.listen(http(b'{"models": []}'), tls=context)
    machines.mkdir()
    authorities.mkdir(mode=0o700)
    put(authorities, trusted.read_text(), name="own.pem")
    (machines / "box.yaml").write_text(
        "name: box\nrole: test\nhardware: {}\nmodels: []\n"
        f"network: {{hostname: 127.0.0.1, port: {host.port}, scheme: https, ca: own.pem, sidecar: false}}\n"
    )
    done = command(
        "doctor",
        MACHINES_DIR=str(machines),
        MACHINES_CA_DIR=str(authorities),
        MACHINES_DATA_DIR=str(tmp_path / "var"),
        MACHINES_POLL_TIMEOUT_S="4",
    )
    lines = done.stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if "box ollama" in line)
    assert lines[at].startswith(f"FAIL  box ollama: https://127.0.0.1:{host.port}/api/ps: ")
    assert reason in lines[at]
    assert hint in lines[at + 1]
