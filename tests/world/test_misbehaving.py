"""Every way to misbehave, all at once, on either endpoint: only that machine changes, and it is said why."""

import json
import socket
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from bench.simulation import simulated
from machines_server.core.registry import Endpoint
from machines_server.core.sample import State
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, free_port
from tests.world.misbehaving import Misbehaviour, good_answer, misbehaviours

GOOD = 50
INTERVAL_S, TIMEOUT_S = 1.0, 0.5
LATE_S, MEMORY_BYTES = 0.5, 50 * 2**20
WATCHED_CYCLES = 8


class Watch:
    """How late the samples of good hosts are seen, and what statuses they have; watched all the time."""

    def __init__(self, server: RunningServer) -> None:
        self._server, self._ended = server, threading.Event()
        self.latest_s, self.statuses, self.looks = 0.0, set[str](), 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            body, now = self._server.get("/api/infrastructure").json(), time.time()
            for machine in body["machines"]:
                if machine["name"].startswith("host"):
                    self.statuses.add(machine["status"])
                    age_s = now - datetime.fromisoformat(machine["sampled_at"]).timestamp()
                    self.latest_s = max(self.latest_s, age_s - INTERVAL_S)
            self.looks += 1

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def test_whatever_hosts_do_only_they_change_and_it_is_said_why(tmp_path: Path, fakes: FakeFleet) -> None:
    bad = misbehaviours()
    with ExitStack() as stack:
        fleet = stack.enter_context(simulated(GOOD))
        fleet.declare(tmp_path / "machines")
        server = stack.enter_context(RunningServer(tmp_path))
        wait_until(lambda: {one["status"] for one in server.fleet().values()} == {"online"}, 20)
        time.sleep(3 * INTERVAL_S)
        poller = psutil.Process(server.poller_pid())
        before = poller.memory_info().rss
        names = {
            name: (behaviour, endpoint)
            for number, behaviour in enumerate(bad)
            for endpoint in Endpoint
            for name in [_declare(server, fakes, f"bad{number}-{endpoint}", behaviour, endpoint)]
        }
        _never_accepting(stack, server)
        watch = Watch(server)
        most = 0
        for _ in range(round(WATCHED_CYCLES * INTERVAL_S / 0.1)):
            time.sleep(0.1)
            most = max(most, poller.memory_info().rss)
        machines = server.fleet()
        watch.end()
        wrong = {
            f"{behaviour.name}, {endpoint}": found
            for name, (behaviour, endpoint) in names.items()
            if (found := _wrong(machines[name], behaviour, endpoint))
        }
        assert wrong == {}
        assert machines["never-accepts"]["status_reason"].startswith("sidecar: no connection within 0.5 s")
        assert watch.statuses == {"online"}
        assert watch.looks > WATCHED_CYCLES
        assert watch.latest_s <= LATE_S
        assert most - before <= MEMORY_BYTES
        assert server.poller_pid() == poller.pid
        log = server.log.read_text()
    for name, (behaviour, endpoint) in names.items():
        lines = [line for line in log.splitlines() if f"machine {name}:" in line]
        assert len(lines) <= 2, (behaviour.name, lines)
        assert any(f"{endpoint}: " in line for line in lines), (behaviour.name, lines)
    assert "Traceback" not in log


def _declare(
    server: RunningServer, fakes: FakeFleet, name: str, behaviour: Misbehaviour, endpoint: Endpoint
) -> str:
    """A machine of which one endpoint misbehaves and the other is well."""
    ends = {
        one: fakes.scripted(behaviour.script(one)) if one is endpoint else fakes.listen(good_answer(one))
        for one in Endpoint
    }
    server.write(f"{name}.yaml", machine_yaml(name, ends[Endpoint.SIDECAR], ends[Endpoint.OLLAMA]))
    return name


def _wrong(machine: dict[str, Any], behaviour: Misbehaviour, endpoint: Endpoint) -> dict[str, Any]:
    """What is not as it should be."""
    reason, ollama = behaviour.said(endpoint), machine["ollama"]
    if endpoint is Endpoint.OLLAMA:
        good = machine["status"] == "online" and ollama["state"] == behaviour.state
        good &= reason in (ollama["message"] or "") and machine["loaded_models"] == []
    else:
        good = machine["status"] == "degraded" and ollama["state"] == State.OK
        good &= machine["loaded_models"] == ["phi3:mini"]
    good &= f"{endpoint}: " in (machine["status_reason"] or "") and reason in machine["status_reason"]
    keys = ("status", "status_reason", "loaded_models")
    return (
        {} if good else {key: machine[key] for key in keys} | {"state": ollama["state"], "expected": reason}
    )


def _never_accepting(stack: ExitStack, server: RunningServer) -> None:
    """A host whose queue of connections is full, so that it drops what comes."""
    listening = stack.enter_context(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listening.getsockname())
    network = {"hostname": "127.0.0.1", "sidecar_port": listening.getsockname()[1], "port": free_port()}
    machine = json.loads(machine_yaml("never-accepts", None, None)) | {"network": network}
    server.write("never-accepts.yaml", json.dumps(machine))
