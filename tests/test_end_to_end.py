"""The whole way: machine files in, live truth out; real gunicorn, real SQLite, real sockets."""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Sized
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.bodies import gpu_body, http, ollama_body, sidecar_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.guide import route
from tests.running import RunningServer, wait_for_status

EXAMPLES = Path(__file__).parent.parent / "machines" / "examples"


def _more_than(there: Sized, number: int) -> bool:
    return len(there) > number


def example(name: str, hostname: str, port: int, sidecar_port: int) -> str:
    """A shipped example, at an address where a fake host answers."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    text = text.replace(f"hostname: {name}.lan", f"hostname: {hostname}\n  sidecar_port: {sidecar_port}")
    return text.replace("port: 11434", f"port: {port}")


def test_the_guides_two_machines_are_seen_live_and_routed_to(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    workstation = fakes.sidecar(gpu_body(0, used_gb=18.2), gpu_body(1, used_gb=0.5), address="127.0.0.2")
    workstation_ollama = fakes.ollama("llama3.1:70b", "nomic-embed-text:latest", address="127.0.0.2")
    app_host = fakes.sidecar(address="127.0.0.3")
    app_host_ollama = fakes.ollama("phi3:mini", address="127.0.0.3")
    shared_server.write(
        "workstation.yaml", example("workstation", "127.0.0.2", workstation_ollama.port, workstation.port)
    )
    shared_server.write(
        "app-host.yaml", example("app-host", "127.0.0.3", app_host_ollama.port, app_host.port)
    )
    names = [machine["name"] for machine in shared_server.get("/api/machines").json()["machines"]]
    assert names == ["app-host", "workstation"]
    machine = wait_for_status(shared_server, "workstation", "online")
    assert machine["telemetry"]["cpu_percent"] == 12.4
    assert machine["telemetry"]["ram_used_gb"] == 38.0
    assert [
        {key: gpu[key] for key in ("vram_used_gb", "vram_free_gb", "utilisation")}
        for gpu in machine["telemetry"]["gpu"]
    ] == [
        {"vram_used_gb": 18.2, "vram_free_gb": 5.8, "utilisation": 47},
        {"vram_used_gb": 0.5, "vram_free_gb": 23.5, "utilisation": 47},
    ]
    assert machine["hardware"]["gpu"][0] == {"model": "24GB consumer GPU", "vram_gb": 24}
    loaded = wait_until(lambda: shared_server.fleet()["workstation"]["loaded_models"])
    assert loaded == ["llama3.1:70b", "nomic-embed-text"]
    assert "gpu" not in wait_for_status(shared_server, "app-host", "online")["telemetry"]
    wait_until(lambda: shared_server.fleet()["app-host"]["loaded_models"])
    assert route(shared_server.url, "llama3.1:70b") == ("workstation", "127.0.0.2")
    assert route(shared_server.url, "nomic-embed-text") == ("workstation", "127.0.0.2")
    assert route(shared_server.url, "phi3:mini") == ("app-host", "127.0.0.3")
    with pytest.raises(RuntimeError):
        route(shared_server.url, "qwen2.5:32b")


def test_a_new_file_is_polled_at_once_rather_than_at_the_next_cycle(tmp_path: Path, fakes: FakeFleet) -> None:
    with RunningServer(tmp_path, MACHINES_POLL_INTERVAL_S="60", MACHINES_POLL_TIMEOUT_S="2") as server:
        wait_until(lambda: server.get("/health").json()["poller"]["last_cycle_at"])
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
        wait_for_status(server, "one", "online", within_s=30)


def test_status_follows_the_hosts_within_a_cycle(shared_server: RunningServer, fakes: FakeFleet) -> None:
    sidecar, ollama = fakes.sidecar(gpu_body(0, used_gb=1)), fakes.ollama("phi3:mini")
    shared_server.write("one.yaml", machine_yaml("one", sidecar, ollama))
    wait_for_status(shared_server, "one", "online")
    sidecar.stop()
    degraded = wait_for_status(shared_server, "one", "degraded")
    assert degraded["status_reason"] == "sidecar: connection refused"
    assert degraded["loaded_models"] == ["phi3:mini"]
    assert degraded["telemetry"]["gpu"]  # old, and marked as old
    assert degraded["sampled_at"] < degraded["last_seen"]
    ollama.stop()
    offline = wait_for_status(shared_server, "one", "offline")
    assert offline["status_reason"] == "sidecar and ollama: connection refused"
    assert offline["loaded_models"] == []
    sidecar.start()
    online = wait_for_status(shared_server, "one", "online")
    assert online["loaded_models"] == []
    assert online["ollama"]["state"] == "unreachable"
    assert online["ollama"]["message"] == "connection refused: start Ollama, or set network.ollama: false"
    ollama.start()
    wait_until(lambda: shared_server.fleet()["one"]["loaded_models"] == ["phi3:mini"])


def test_an_ollama_that_stalls_is_busy_and_keeps_its_models(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    ollama = fakes.ollama("llama3.1:70b")
    shared_server.write("one.yaml", machine_yaml("one", fakes.sidecar(), ollama))
    wait_until(lambda: shared_server.fleet().get("one", {}).get("loaded_models"))
    ollama.answer = None
    # Each worker learns of polls on its own: what one has shown, another may show a moment later.
    (machine,) = wait_until(
        lambda: [one for one in shared_server.fleet().values() if one["ollama"]["state"] == "busy"]
    )
    assert (machine["status"], machine["loaded_models"]) == ("online", ["llama3.1:70b"])


def test_one_look_alike_or_hostile_answer_changes_only_its_machine(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    good = machine_yaml("good", fakes.sidecar(), fakes.ollama("phi3:mini"))
    bad = machine_yaml("bad", fakes.listen(http(b"<html>")), fakes.listen(http(b'{"models": {"model": 7}}')))
    shared_server.write("good.yaml", good)
    shared_server.write("bad.yaml", bad)
    wait_for_status(shared_server, "bad", "offline")
    reason = "sidecar: HTML, not JSON; ollama: models: not a list of objects"
    wait_until(lambda: shared_server.fleet()["bad"]["status_reason"] == reason)
    assert wait_for_status(shared_server, "good", "online")


def test_one_odd_entry_costs_one_entry_and_never_the_machine(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    gpus = gpu_body(0, used_gb=1), gpu_body(1, used_gb=1, utilisation=808334905, temperature_c=4294967295)
    models = b'{"models": [{"model": 7}, {"name": "m", "size": -1, "expires_at": 1795453200}]}'
    odd = machine_yaml("odd", fakes.sidecar(*gpus), fakes.listen(http(models)))
    shared_server.write("odd.yaml", odd)
    wait_until(lambda: shared_server.fleet().get("odd", {}).get("loaded_models") == ["m"])
    machine = wait_for_status(shared_server, "odd", "online")
    assert machine["ollama"]["models"][0]["size_bytes"] is None
    assert [gpu["utilisation"] for gpu in machine["telemetry"]["gpu"]] == [47, None]
    assert "models[0].model: 7 is not a non-blank string" in machine["ollama"]["message"]
    assert "gpu[1].utilisation: 808334905 is out of range" in machine["status_reason"]


def test_fifty_broken_files_beside_two_good_ones(shared_server: RunningServer, fakes: FakeFleet) -> None:
    for number in range(50):
        shared_server.write(f"broken{number}.yaml", ["name: [", "", "name: x", "a: b: c", "- 1"][number % 5])
    for name in ("one", "two"):
        shared_server.write(f"{name}.yaml", machine_yaml(name, fakes.sidecar(), fakes.ollama()))
    body = shared_server.get("/api/machines").json()
    assert [machine["name"] for machine in body["machines"]] == ["one", "two"]
    assert len({error["file"] for error in body["errors"]}) == 50
    wait_for_status(shared_server, "one", "online")
    wait_for_status(shared_server, "two", "online")


def test_a_file_that_breaks_stays_in_force_in_every_worker_and_over_a_restart(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    sidecar, ollama = fakes.sidecar(), fakes.ollama()
    with RunningServer(tmp_path) as server:
        server.write("one.yaml", machine_yaml("one", sidecar, ollama))
        wait_for_status(server, "one", "online")
        server.write("one.yaml", machine_yaml("one", sidecar, ollama)[:30])
        wait_until(lambda: server.get("/api/machines").json()["errors"])
        assert server.log.read_text().count("machine file one.yaml") <= 1
    with RunningServer(tmp_path) as server:
        for _ in range(20):
            body = server.get("/api/machines").json()
            assert [machine["name"] for machine in body["machines"]] == ["one"]
            assert body["errors"][0]["file"] == "one.yaml"
        wait_for_status(server, "one", "online")
        (server.machines / "one.yaml").unlink()
        assert server.get("/api/machines").json()["machines"] == []


def test_three_hundred_machines_of_which_two_hundred_are_dead_or_silent(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    live = [fakes.sidecar(address=f"127.0.1.{number}") for number in range(1, 101)]
    ollama = [fakes.ollama("phi3:mini", address=f"127.0.1.{number}") for number in range(1, 101)]
    silent = [fakes.listen(None, address=f"127.0.2.{number}") for number in range(1, 101)]
    for number in range(100):
        for name, text in (
            (f"live{number}", machine_yaml(f"live{number}", live[number], ollama[number])),
            (f"silent{number}", machine_yaml(f"silent{number}", silent[number], None)),
            (f"dead{number}", machine_yaml(f"dead{number}", None, None, hostname=f"127.0.3.{number + 1}")),
        ):
            (machines / f"{name}.yaml").write_text(text.replace('"ollama": false', '"ollama": true'))
    with RunningServer(tmp_path, MACHINES_POLL_INTERVAL_S="3", MACHINES_POLL_TIMEOUT_S="2") as server:
        wait_until(lambda: min(len(one.asked_at) for one in live) >= 5, 120)
        fleet = server.fleet()
    most_s = 2 * float(server.settings["MACHINES_POLL_INTERVAL_S"])
    statuses = {
        kind: {m["status"] for n, m in fleet.items() if n.startswith(kind)}
        for kind in ("live", "silent", "dead")
    }
    assert statuses == {"live": {"online"}, "silent": {"offline"}, "dead": {"offline"}}
    for endpoint in live:
        gaps = [
            after - before
            for before, after in zip(endpoint.asked_at[1:], endpoint.asked_at[2:], strict=False)
        ]
        assert max(gaps) < most_s, gaps  # no cycle waits for the silent ones, or is lost


def test_a_live_hosts_sample_is_seen_while_others_hang(tmp_path: Path, fakes: FakeFleet) -> None:
    with RunningServer(tmp_path, MACHINES_POLL_INTERVAL_S="30", MACHINES_POLL_TIMEOUT_S="20") as server:
        for number in range(20):
            endpoint = fakes.listen(None)
            server.write(f"silent{number}.yaml", machine_yaml(f"silent{number}", endpoint, endpoint))
        live = fakes.sidecar()
        server.write("live.yaml", machine_yaml("live", live, fakes.listen(None)))
        wait_until(lambda: live.asked_at)
        answered = time.monotonic()
        wait_for_status(server, "live", "online")
        assert time.monotonic() - answered < 10


def test_a_database_that_another_program_locks_turns_no_machine_offline(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    shared_server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
    wait_for_status(shared_server, "one", "online")
    other = sqlite3.connect(shared_server.data / "telemetry.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    wait_until(lambda: shared_server.get("/health").json()["store"]["state"] == "error")
    assert "locked" in shared_server.get("/health").json()["store"]["message"]
    assert shared_server.get("/health/ready").status_code == 503
    assert wait_for_status(shared_server, "one", "unknown")
    other.execute("ROLLBACK")
    other.close()
    wait_for_status(shared_server, "one", "online")
    assert shared_server.get("/health").json()["store"] == {"state": "ok", "message": None}


def test_a_file_replaced_by_half_of_itself_while_sixteen_clients_read(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    text = machine_yaml("one", fakes.sidecar(), fakes.ollama())
    shared_server.write("one.yaml", text)
    wait_for_status(shared_server, "one", "online")
    answers: list[Any] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            answers.append(
                [one["name"] for one in shared_server.get("/api/infrastructure").json()["machines"]]
            )

    readers = [threading.Thread(target=read) for _ in range(16)]
    for reader in readers:
        reader.start()
    for _ in range(20):
        for half in (text[: len(text) // 2], text):
            (shared_server.machines / "one.yaml").write_text(half)
            seen = len(answers)
            wait_until(partial(_more_than, answers, seen + 3))
    ended.set()
    for reader in readers:
        reader.join()
    assert {json.dumps(names) for names in answers} == {'["one"]'}


def test_a_reading_that_changes_is_seen_in_the_next_cycle(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    sidecar = fakes.sidecar(gpu_body(0, used_gb=1))
    shared_server.write("one.yaml", machine_yaml("one", sidecar, fakes.listen(http(ollama_body()))))
    wait_for_status(shared_server, "one", "online")
    sidecar.answer = http(sidecar_body(gpu_body(0, used_gb=20)))

    def free_gb() -> list[float]:
        return [gpu["vram_free_gb"] for gpu in shared_server.fleet()["one"]["telemetry"].get("gpu", ())]

    wait_until(lambda: free_gb() == [4])


def test_a_database_that_is_deleted_while_it_runs_is_made_anew(
    server: RunningServer, fakes: FakeFleet
) -> None:
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
    wait_for_status(server, "one", "online")
    for file in server.data.glob("telemetry.db*"):
        file.unlink()
    wait_until(lambda: (server.data / "telemetry.db").exists())
    wait_for_status(server, "one", "online")
    wait_until(lambda: server.get("/health/ready").ok)
    assert "was moved away or deleted" in server.log.read_text()


def test_connections_that_say_nothing_keep_nobody_out(shared_server: RunningServer) -> None:
    idle = [
        socket.create_connection(("127.0.0.1", int(shared_server.settings["MACHINES_PORT"])))
        for _ in range(60)
    ]
    assert shared_server.get("/health").ok
    for connection in idle:
        connection.close()


def test_what_is_no_request_is_refused_in_json(shared_server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", int(shared_server.settings["MACHINES_PORT"]))) as connection:
        connection.sendall(b"garbage\r\n\r\n")
        answer = connection.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"400" in head
    assert json.loads(body)["error"] == "bad_request"
    assert shared_server.get("//api//machines").json()["error"] == "not_found"
