"""Host names that lead nowhere, slowly or to very many addresses, asked of a name service of our own."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.poll.name_service import ADDRESS, answer_names
from tests.running import RunningServer, wait_for_status

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="only root may mount another /etc/hosts in a namespace of its own",
)
MANY = [f"127.3.0.{number}" for number in range(1, 201)]
BECOME = 'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"'


def test_a_name_that_leads_nowhere_changes_only_its_machine(tmp_path: Path, fakes: FakeFleet) -> None:
    threading.Thread(target=answer_names, args=[0.0], daemon=True).start()
    hosts = {"refused.many": MANY, "last.many": MANY, "localhost": ["127.0.0.1"]}
    (tmp_path / "hosts").write_text(
        "".join(f"{address} {name}\n" for name, addresses in hosts.items() for address in addresses)
    )
    (tmp_path / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    good = fakes.sidecar(), fakes.ollama()
    last = fakes.sidecar(address=MANY[-1]), fakes.ollama(address=MANY[-1])
    files = {
        "good": machine_yaml("good", *good),
        "nowhere": machine_yaml("nowhere", *good, hostname="host.none"),
        "unanswered": machine_yaml("unanswered", *good, hostname="host.dead"),
        "refused": machine_yaml("refused", *good, hostname="refused.many"),
        "last": machine_yaml("last", *last, hostname="last.many"),
    }
    prefix = ["unshare", "--mount", "sh", "-c", BECOME, str(tmp_path)]
    with RunningServer(tmp_path, prefix=prefix) as server:
        for name, text in files.items():
            server.write(f"{name}.yaml", text)
        wait_for_status(server, "good", "online")
        wait_for_status(server, "last", "online")
        for name, reason in {
            "nowhere": "sidecar: name not found; ollama: name not found",
            "unanswered": "sidecar: name not resolved",
            "refused": "sidecar: connection refused; ollama: connection refused",
        }.items():
            assert wait_for_status(server, name, "offline")["status_reason"].startswith(reason)
        asked = len(good[0].asked_at)
        wait_until(lambda: len(good[0].asked_at) >= asked + 5)
        gaps = [after - before for before, after in zip(good[0].asked_at, good[0].asked_at[1:], strict=False)]
        assert max(gaps[2:]) < 1.5
        assert server.fleet()["good"]["status"] == "online"
