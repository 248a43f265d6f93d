"""Leases of a real server with two workers, asked for by many processes at once."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.bodies import gpu_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, clean_environment, wait_for_status

LLAMA = "llama3.1:70b"
AGENTS, LEASES, MACHINES = 64, 1000, 10


def hold(server: RunningServer, fakes: FakeFleet, **free_gb: tuple[float, ...]) -> None:
    """Machines of those names hold the model, with so much free on each of their GPUs."""
    for name, free in free_gb.items():
        gpus = [gpu_body(index, used_gb=24 - gb, uuid=f"{name}-{index}") for index, gb in enumerate(free)]
        server.write(f"{name}.yaml", machine_yaml(name, fakes.sidecar(*gpus), fakes.ollama(LLAMA)))
    for name in free_gb:
        wait_for_status(server, name, "online")
    wait_until(lambda: all(one["loaded_models"] for one in server.fleet().values()))


def lease(server: RunningServer, **body: Any) -> requests.Response:
    return requests.post(f"{server.url}/api/leases", json={"model": LLAMA} | body, timeout=60)


def held(server: RunningServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/api/leases").json()["leases"]
    return found


def most_held(told: list[dict[str, Any]]) -> dict[str, float]:
    """The most of each GPU that agents surely held at one time: from an answer until it was given back."""
    moments = []
    for one in told:
        for gpu in one["gpus"]:
            moments += [
                (one["got"], gpu["vram_gb"], gpu["uuid"]),
                (one["releasing"], -gpu["vram_gb"], gpu["uuid"]),
            ]
    now, most = Counter[str](), dict[str, float]()
    for _, gb, uuid in sorted(moments):
        now.update({uuid: gb})
        most[uuid] = max(most.get(uuid, 0), now[uuid])
    return most


@pytest.fixture
def agents(server: RunningServer) -> Iterator[list[subprocess.Popen[bytes]]]:
    """64 processes that wait for the word to take their share of 1,000 leases."""
    words = [sys.executable, "-m", "bench.lease_agent", server.url.rpartition(":")[2]]
    counts = [LEASES // AGENTS + (number < LEASES % AGENTS) for number in range(AGENTS)]
    processes = [
        subprocess.Popen(
            [*words, str(count), str(number)],
            env=clean_environment(PYTHONPATH=str(Path(__file__).parent.parent)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number, count in enumerate(counts)
    ]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_no_vram_is_promised_twice_however_many_ask_at_once(
    server: RunningServer, fakes: FakeFleet, agents: list[subprocess.Popen[bytes]]
) -> None:
    free = {f"m{number}": (4.0 + number % 3, 10.0) for number in range(MACHINES)}
    hold(server, fakes, **free)
    for process in agents:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    seen: list[list[dict[str, Any]]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            seen.append(held(server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    told = []
    for process in agents:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
        told += [json.loads(line) for line in out.splitlines()]
    ended.set()
    watcher.join()

    assert len({one["lease"] for one in told}) == LEASES
    server.let_all_workers_know()
    assert held(server) == []
    room = {f"{name}-{index}": gb for name, gpus in free.items() for index, gb in enumerate(gpus)}
    assert all(gb <= room[uuid] + 1e-9 for uuid, gb in most_held(told).items())
    assert len(seen) > 5
    for leases in seen:
        promised = Counter[str]()
        for one in leases:
            promised.update({gpu["uuid"]: gpu["vram_gb"] for gpu in one["gpus"]})
        assert all(gb <= room[uuid] + 1e-9 for uuid, gb in promised.items())
    with closing(sqlite3.connect(server.data / "coordination.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("wanted_gb", [0, 2])
def test_two_agents_in_the_same_second_get_different_machines(
    shared_server: RunningServer, fakes: FakeFleet, wanted_gb: float
) -> None:
    hold(shared_server, fakes, much=(20,), little=(6,))
    shared_server.let_all_workers_know()
    granted = [lease(shared_server, min_free_vram_gb=wanted_gb).json() for _ in range(2)]
    assert [one.get("machine") for one in granted] == ["much", "little"], granted


def test_what_only_one_can_have_is_given_once_and_the_other_is_told_when_to_ask_again(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    hold(shared_server, fakes, one=(10,))
    assert lease(shared_server, min_free_vram_gb=6, ttl_s=30).status_code == 201
    second = lease(shared_server, min_free_vram_gb=6)
    assert second.status_code == 503
    body = second.json()
    assert body["error"] == "no_machine"
    assert 25 < body["retry_after_s"] <= 30
    assert second.headers["Retry-After"] == str(body["retry_after_s"])
    assert body["rejected"][0]["code"] == "leased"
    assert lease(shared_server, min_free_vram_gb=4).status_code == 201
    assert lease(shared_server).status_code == 201  # it asks for no VRAM


def test_a_restart_keeps_the_leases(tmp_path: Path, fakes: FakeFleet) -> None:
    with RunningServer(tmp_path) as server:
        hold(server, fakes, one=(10,))
        before = lease(server, min_free_vram_gb=6).json()
    with RunningServer(tmp_path) as server:
        wait_for_status(server, "one", "online")
        (after,) = held(server)
        assert {key: before[key] for key in after} == after
        assert server.get(f"/api/route?model={LLAMA}").json()["candidates"][0]["free_vram_gb"] == 4.0


def test_a_lease_ends_by_itself(shared_server: RunningServer, fakes: FakeFleet) -> None:
    hold(shared_server, fakes, one=(10,))
    assert lease(shared_server, min_free_vram_gb=6, ttl_s=1).status_code == 201
    wait_until(lambda: not held(shared_server))
    assert lease(shared_server, min_free_vram_gb=10).status_code == 201


def test_a_killed_worker_leaves_no_half_lease_and_loses_none(server: RunningServer, fakes: FakeFleet) -> None:
    hold(server, fakes, a=(20, 20), b=(20,))
    got: dict[str, Any] = {}
    ended = threading.Event()

    def take(number: int) -> None:
        """Ask as a careful client does: again with the same key when the connection broke."""
        turn = 0
        while not ended.is_set():
            turn += 1
            key = {"Idempotency-Key": f"{number}-{turn}"}
            body = {"model": LLAMA, "min_free_vram_gb": 0.01, "holder": key["Idempotency-Key"], "ttl_s": 600}
            for _ in range(20):
                try:
                    answer = requests.post(f"{server.url}/api/leases", json=body, headers=key, timeout=60)
                except requests.RequestException:
                    time.sleep(0.05)
                    continue
                if answer.status_code == 201:
                    got[answer.json()["lease"]] = answer.json()
                break

    takers = [threading.Thread(target=take, args=[number]) for number in range(4)]
    for taker in takers:
        taker.start()
    try:
        for _ in range(8):
            before = len(got)
            wait_until(lambda before=before: len(got) > before + 5, 20)  # type: ignore[misc]  # bound by default
            workers = psutil.Process(server.process.pid).children()
            workers[before % len(workers)].kill()
    finally:
        ended.set()
        for taker in takers:
            taker.join()
    with closing(sqlite3.connect(server.data / "coordination.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def all_that_were_got() -> dict[str, Any]:
        there = {one["lease"]: one for one in held(server)}
        return there if got.keys() <= there.keys() else {}

    # Workers of several servers learn within a second of what one granted that was killed.
    there = wait_until(all_that_were_got, 10)
    holders = [one["holder"] for one in there.values()]
    assert len(set(holders)) == len(holders)  # one lease for each key
    assert all(one["machine"] in ("a", "b") and one["gpus"] for one in there.values())


def test_a_lease_is_broken_by_its_machine_and_not_by_our_own_faults(
    server: RunningServer, fakes: FakeFleet
) -> None:
    sidecar, ollama = fakes.sidecar(gpu_body(0, used_gb=4)), fakes.ollama(LLAMA)
    server.write("one.yaml", machine_yaml("one", sidecar, ollama))
    wait_for_status(server, "one", "online")
    wait_until(lambda: server.fleet()["one"]["loaded_models"])
    renew = f"{server.url}/api/leases/{lease(server, ttl_s=600).json()['lease']}/renew"
    poller = server.poller_pid()
    os.kill(poller, signal.SIGSTOP)
    try:
        wait_for_status(server, "one", "unknown", 20)
        assert requests.post(renew, timeout=60).status_code == 200
    finally:
        os.kill(poller, signal.SIGCONT)
    wait_for_status(server, "one", "online", 20)
    sidecar.stop()
    ollama.stop()
    wait_for_status(server, "one", "offline")
    server.let_all_workers_know()
    broken = requests.post(renew, json={"ttl_s": 5}, timeout=60)
    assert (broken.status_code, broken.json()["error"]) == (409, "lease_broken")
    assert "connection refused" in broken.json()["message"]
    (there,) = held(server)
    assert "offline" in there["broken"]
    assert there["ttl_s"] == 600  # it was not renewed
    assert requests.delete(renew.removesuffix("/renew"), timeout=60).status_code == 200
