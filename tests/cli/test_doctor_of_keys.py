"""What `doctor` says about keys, the server's own certificate, and clocks."""

import os
import re
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from machines_server.cli.doctor_of_keys import check_clock
from tests import certificates
from tests.auth.agents import Agents
from tests.bodies import http, sidecar_body
from tests.fakes import FakeFleet, machine_yaml
from tests.running import command

DAY_S = 86_400


def doctor(folder: Path, **settings: str) -> str:
    machines = folder / "machines"
    machines.mkdir(exist_ok=True)
    return command(
        "doctor", MACHINES_DIR=str(machines), MACHINES_DATA_DIR=str(folder / "var"), **settings
    ).stdout


def test_keys_of_agents_are_counted_and_checked(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    settings = {"AUTH_MODE": "observe", "AUTH_KEYS_DIR": str(agents.public)}
    agents.public.chmod(0o755)
    assert "0 in" in doctor(tmp_path, **settings)
    agent = agents.add("me")
    own = {"MACHINES_AGENT_ID": "me", "MACHINES_PRIVATE_KEY": str(agent.private_key)}
    said = doctor(tmp_path, **settings, **own)
    assert f"1 in {agents.public}" in said
    assert "requests to sidecars are signed" in said
    (agents.public / "garbage.pub").write_text("no key")
    os.mkfifo(agents.public / "pipe.pub")
    agents.add("open")
    (agents.public / "open.pub").chmod(0o666)
    agents.add("-odd")
    agents.public.chmod(0o777)
    agent.private_key.chmod(0o644)
    said = doctor(tmp_path, **settings, **own)
    assert "no agent can sign with -odd.pub, garbage.pub, pipe.pub: " in said
    assert "other users may replace the key in open.pub" in said
    assert "lets other users add keys" in said
    assert "Others may read the private key" in said


def test_a_certificate_that_expires_is_told(tmp_path: Path) -> None:
    by = certificates.authority(tmp_path)
    soon = certificates.certificate_for(tmp_path, by, "IP:127.0.0.1")
    said = doctor(tmp_path, MACHINES_TLS_CERT=str(soon), MACHINES_TLS_KEY=str(soon.with_suffix(".key")))
    assert "expires soon, on" in said
    assert "other users can read" not in said
    soon.with_suffix(".key").chmod(0o640)
    said = doctor(tmp_path, MACHINES_TLS_CERT=str(soon), MACHINES_TLS_KEY=str(soon.with_suffix(".key")))
    assert f"other users can read {soon.with_suffix('.key')}" in said
    past = certificates.expired_for(tmp_path, by, "IP:127.0.0.1")
    said = doctor(tmp_path, MACHINES_TLS_CERT=str(past), MACHINES_TLS_KEY=str(past.with_suffix(".key")))
    assert "has expired, on 2020-02-01" in said
    said = doctor(tmp_path, MACHINES_TLS_CERT=str(past), MACHINES_TLS_KEY=str(tmp_path / "missing"))
    assert "cannot be read: No such file" in said


@pytest.mark.parametrize(
    ("ahead_s", "said"),
    [
        (None, None),
        (0.0, None),
        (-29.0, None),
        (45.0, "its clock is 45 s ahead of this host's"),
        (-3600.0, "its clock is 3600 s behind this host's"),
    ],
)
def test_a_clock_that_is_off_is_told(ahead_s: float | None, said: str | None) -> None:
    assert [one.finding for one in check_clock("one ollama", ahead_s)] == ([said] if said else [])


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized"])
def test_the_clock_of_a_sidecar_is_checked_also_if_it_refuses(
    tmp_path: Path, fakes: FakeFleet, status: str
) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    answer = http(sidecar_body(), status)
    line, _, rest = answer.partition(b"\r\n")
    date = formatdate(time.time() + 600, usegmt=True).encode()
    sidecar = fakes.listen(line + b"\r\nDate: " + date + b"\r\n" + rest)
    (machines / "one.yaml").write_text(machine_yaml("one", sidecar, None))
    assert re.search(r"one sidecar: its clock is (600|5\d\d) s ahead of this host's", doctor(tmp_path))
