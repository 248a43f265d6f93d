"""Host names that lead nowhere, slowly or to very many addresses, asked of a name service of our own."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.poll.name_service import ADDRESS, answer_names
from tests.running import RunningServer, wait_for_status
from tests.world.neighbours import TIMEOUT_S, Neighbours, assert_said_once

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="only root may mount another /etc/hosts in a namespace of its own",
)
MANY = [f"127.3.0.{number}" for number in range(1, 201)]
SLOW_S = 6 * TIMEOUT_S
BECOME = 'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"'


def test_a_name_that_leads_nowhere_changes_only_its_machine(tmp_path: Path, fakes: FakeFleet) -> None:
    threading.Thread(target=answer_names, args=[SLOW_S], daemon=True).start()
    names = ("refused.many", "last.many", "holes.many")
    hosts = {"localhost": ["127.0.0.1"]} | dict.fromkeys(names, MANY)
    (tmp_path / "hosts").write_text(
        "".join(f"{address} {name}\n" for name, addresses in hosts.items() for address in addresses)
    )
    (tmp_path / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    good = fakes.sidecar(), fakes.ollama()
    last = fakes.sidecar(address=MANY[-1]), fakes.ollama(address=MANY[-1])
    holes = fakes.deaf("0.0.0.0"), fakes.deaf("0.0.0.0")
    bad = {
        "nowhere": machine_yaml("nowhere", *good, hostname="host.none"),
        "unanswered": machine_yaml("unanswered", *good, hostname="host.dead"),
        "slow": machine_yaml("slow", *good, hostname="host.slow"),
        "refused": machine_yaml("refused", *good, hostname="refused.many"),
        "last": machine_yaml("last", *last, hostname="last.many"),
        "holes": machine_yaml("holes", *holes, hostname="holes.many"),
    }
    prefix = ["unshare", "--mount", "sh", "-c", BECOME, str(tmp_path)]
    with RunningServer(tmp_path, prefix=prefix) as server:
        server.write("good.yaml", machine_yaml("good", *good))
        server.write("named.yaml", machine_yaml("named", *good, hostname="localhost"))
        for name in ("good", "named"):
            wait_for_status(server, name, "online")
        with Neighbours(server, ["good", "named"]) as neighbours:
            for name, text in bad.items():
                server.write(f"{name}.yaml", text)
            for name, reason in {
                "slow": "sidecar: name not resolved within 0.5 s; ollama: name not resolved within 0.5 s",
                "nowhere": "sidecar: name not found; ollama: name not found",
                "unanswered": "sidecar: name not resolved",
                "refused": "sidecar: connection refused; ollama: connection refused",
                "holes": "sidecar: no connection within 0.5 s; ollama: no connection within 0.5 s",
            }.items():
                assert wait_for_status(server, name, "offline")["status_reason"].startswith(reason)
            for name in ("last", "slow"):
                wait_for_status(server, name, "online")
            asked = len(good[0].asked_at)
            wait_until(lambda: len(good[0].asked_at) >= asked + 15)
        neighbours.assert_undisturbed()
        log = server.log.read_text()
    assert_said_once(log)
