"""Host names that lead nowhere, slowly or to very many addresses, resolved by our own name service."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.bodies import gpu_body, http, ollama_body, sidecar_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.poll.name_service import NameService
from tests.ports import free_port
from tests.running import RunningServer, wait_for_status
from tests.tools import tool
from tests.world.neighbours import PACE, TIMEOUT_S, Neighbours, assert_said_once

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0,
    reason="only root may mount another /etc/hosts in a namespace of its own",
)
MANY = [f"127.3.0.{number}" for number in range(1, 201)]
SLOW_S = 6 * TIMEOUT_S
BECOME = 'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"'


def _says(server: RunningServer, name: str, reason: str) -> bool:
    said: str = server.fleet()[name]["status_reason"]
    return reason in said


@pytest.fixture
def service() -> Iterator[NameService]:
    with NameService(SLOW_S) as service:
        yield service


def test_a_name_that_leads_nowhere_changes_only_its_machine(
    tmp_path: Path, fakes: FakeFleet, service: NameService
) -> None:
    names = ("refused.many", "last.many", "holes.many")
    hosts = {"localhost": ["127.0.0.1"]} | dict.fromkeys(names, MANY)
    (tmp_path / "hosts").write_text(
        "".join(f"{address} {name}\n" for name, addresses in hosts.items() for address in addresses)
    )
    (tmp_path / "resolv.conf").write_text(f"nameserver {service.address}\n")
    good = fakes.sidecar(), fakes.ollama()
    last = (
        fakes.listen(http(sidecar_body()), MANY[-1], free_port()),
        fakes.listen(http(ollama_body()), MANY[-1], free_port()),
    )
    holes = fakes.deaf("0.0.0.0"), fakes.deaf("0.0.0.0")
    bad = {
        "nowhere": machine_yaml("nowhere", *good, hostname="host.none"),
        "unanswered": machine_yaml("unanswered", *good, hostname="host.dead"),
        "slow": machine_yaml("slow", *good, hostname="host.slow"),
        "refused": machine_yaml("refused", *good, hostname="refused.many"),
        "last": machine_yaml("last", *last, hostname="last.many"),
        "holes": machine_yaml("holes", *holes, hostname="holes.many"),
    }
    unresolved = f"name not resolved within {TIMEOUT_S:g} s"
    unconnected = f"no connection within {TIMEOUT_S:g} s"
    tool("mount")
    prefix = [tool("unshare"), "--mount", "sh", "-c", BECOME, str(tmp_path)]
    with RunningServer(tmp_path, prefix=prefix, **PACE) as server:
        server.write("good.yaml", machine_yaml("good", *good))
        server.write("named.yaml", machine_yaml("named", *good, hostname="localhost"))
        for name in ("good", "named"):
            wait_for_status(server, name, "online")
        with Neighbours(server, ["good", "named"]) as neighbours:
            for name, text in bad.items():
                server.write(f"{name}.yaml", text)
            for name, reason in {
                "slow": f"sidecar and ollama: {unresolved}",
                "nowhere": "sidecar and ollama: name not found",
                "unanswered": "name not resolved",
                "refused": "sidecar and ollama: connection refused",
                "holes": f"sidecar and ollama: {unconnected}",
            }.items():
                wait_for_status(server, name, "offline")
                wait_until(partial(_says, server, name, reason))
            for name in ("last", "slow"):
                wait_for_status(server, name, "online")
            asked = len(good[0].asked_at)
            wait_until(lambda: len(good[0].asked_at) >= asked + 15)
        neighbours.assert_undisturbed()
        log = server.log.read_text()
    assert_said_once(log)


def test_a_name_that_moves_to_another_host_is_online_in_the_next_cycle_and_the_change_is_told(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    old = fakes.listen(
        http(sidecar_body(gpu_body(0, used_gb=1, uuid="GPU-a"), hostname="alpha")), "127.5.0.1"
    )
    new = fakes.listen(
        http(sidecar_body(gpu_body(0, used_gb=1, uuid="GPU-b"), hostname="beta")), "127.5.0.2", old.port
    )
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{old.address} gpu1.moving\n")
    (tmp_path / "resolv.conf").write_text("")
    prefix = ["unshare", "--mount", "sh", "-c", BECOME, str(tmp_path)]
    with RunningServer(tmp_path, prefix=prefix) as server:
        server.write("gpu1.yaml", machine_yaml("gpu1", old, None, hostname="gpu1.moving"))
        wait_for_status(server, "gpu1", "online")
        with hosts.open("r+") as file:  # the one that is mounted
            file.write(f"{new.address} gpu1.moving\n")
        old.stop()
        wait_until(lambda: "host_changed" in _event_types(server))
        wait_for_status(server, "gpu1", "online")
        told = server.get("/api/events?machine=gpu1").json()["events"]
    types = [event["type"] for event in reversed(told)]
    # A cycle between the two steps above finds the new host at once; any other finds the old one gone first.
    assert types in (
        ["machine_added", "online", "host_changed"],
        ["machine_added", "online", "offline", "online", "host_changed"],
    )
    assert (told[0]["hostname_before"], told[0]["hostname"]) == ("alpha", "beta")


def _event_types(server: RunningServer) -> list[str]:
    return [event["type"] for event in server.get("/api/events?machine=gpu1").json()["events"]]
