"""Expensive questions or much data sent to a real server cost others neither answers nor memory."""

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import requests

from machines_server.core.past.metrics import METRICS
from machines_server.store.sqlite.migrate import migrate
from tests.bodies import gpu_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer
from tests.seen import say

LLAMA = "llama3.1:70b"
CLIENTS, ASKED_S, PATIENCE_S = 24, 3.0, 5.0
DAYS, GPUS = 6, 4
MIB = 2**20


def fill(path: Path, now_s: int) -> None:
    """Minutes of a machine over six days, stays of models over a year, and events."""
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO machine (name, file, declared, added_at_ms) VALUES ('past', 'past.yaml', '{}', 1)"
        )
        connection.executemany(
            "INSERT INTO gpu (machine_id, uuid, position, memory_kind) VALUES (1, ?, ?, 'dedicated')",
            [(f"GPU-past-{number}", number) for number in range(GPUS)],
        )
        minutes = range(now_s // 60 * 60 - DAYS * 86_400, now_s, 60)
        for table, keys, is_gpu in (("sample_1m", 1, False), ("gpu_sample_1m", GPUS, True)):
            columns = [metric.column for metric in METRICS.values() if metric.is_gpu is is_gpu]
            folds = ", ".join(f"{one}_n, {one}_sum, {one}_min, {one}_max" for one in columns)
            marks = ", ".join(["?"] * (2 + 4 * len(columns)))
            key = "gpu_id" if is_gpu else "machine_id"
            connection.executemany(
                f"INSERT INTO {table} ({key}, at_s, {folds}) VALUES ({marks})",
                (
                    (number + 1, at, *[12, 12_000, 900, 1100] * len(columns))
                    for number in range(keys)
                    for at in minutes
                ),
            )
        chance = random.Random(1)
        stays = sorted(now_s - chance.randrange(365 * 86_400) for _ in range(20_000))
        connection.executemany(
            "INSERT INTO model_span (machine_id, model, first_seen_at_ms, last_seen_at_ms)"
            " VALUES (1, ?, ?, ?)",
            ((f"m{at % 40}", at * 1000, (at + 300) * 1000) for at in stays),
        )
        connection.executemany(
            "INSERT INTO event (at_ms, machine_id, type, detail) VALUES (?, 1, ?, ?)",
            (
                (
                    at * 1000,
                    "online" if number % 2 else "offline",
                    '{"before": null, "reason": "sidecar: why"}',
                )
                for number, at in enumerate(stays)
            ),
        )
        connection.commit()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a past, and a machine that holds the model."""
    folder = tmp_path_factory.mktemp("budgets")
    fill(folder / "var" / "telemetry.db", int(time.time()))
    with FakeFleet() as fakes, RunningServer(folder, MACHINES_POLL_INTERVAL_S="2") as running:
        sidecar = fakes.sidecar(gpu_body(0, used_gb=1, uuid="GPU-there"))
        running.write("there.yaml", machine_yaml("there", sidecar, fakes.ollama(LLAMA)))
        wait_until(lambda: running.get("/api/route", params={"model": LLAMA}).ok)
        yield running


def resident_bytes(server: RunningServer) -> list[int]:
    """Of each process of the server."""
    main = psutil.Process(server.process.pid)
    return [one.memory_info().rss for one in (main, *main.children(recursive=True))]


def test_who_asks_much_of_the_past_keeps_nobody_waiting(server: RunningServer) -> None:
    metrics = ",".join(METRICS)
    dear = [
        f"/api/machines/past/history?metric={metrics}&from=-6d&step=60",
        f"/api/machines/past/history?metric={metrics}&from=-6d",
        f"/api/machines/past/history?metric={metrics}&from=-5d&step=360",
        f"/api/machines/past/history?metric={metrics}&from=-5d&step=360&format=csv",
        "/api/machines/past/history?metric=up&from=-6d&step=60",
        "/api/models?from=-365d",
        "/api/events?limit=10000",
        "/api/machines/past/availability?from=-365d",
    ]
    cheap = ["/health", "/api/infrastructure", f"/api/route?model={LLAMA}", "/api/leases", "/"]
    for path in dear[1:]:
        assert server.get(path).status_code == 200, path
    before = max(resident_bytes(server))
    until = time.monotonic() + ASKED_S
    told: Counter[int] = Counter()
    without_advice = 0

    def insist(number: int) -> None:
        nonlocal without_advice
        with requests.Session() as session:
            while time.monotonic() < until:
                number += 1
                response = session.get(server.url + dear[number % len(dear)], timeout=60)
                told[response.status_code] += 1
                if response.status_code == 429:
                    assert response.json()["error"] == "too_many_questions"
                    without_advice += not response.headers["Retry-After"].isdigit()

    threads = [threading.Thread(target=insist, args=[number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    took: list[float] = []
    most = before
    while time.monotonic() < until:
        for path in cheap:
            began = time.monotonic()
            assert server.get(path).status_code == 200, path
            took.append(time.monotonic() - began)
        began = time.monotonic()
        lease = server.post("/api/leases", {"model": LLAMA})
        assert lease.status_code == 201
        requests.delete(f"{server.url}/api/leases/{lease.json()['lease']}", timeout=60).raise_for_status()
        took.append(time.monotonic() - began)
        most = max(most, *resident_bytes(server))
    for thread in threads:
        thread.join()
    within = sum(one < 1 for one in took)
    say(f"{CLIENTS} clients with dear questions: {dict(told)}")
    say(f"of {len(took)} cheap ones {within} answered within 1 s, the slowest in {max(took):.2f} s")
    say(f"the largest process took {before / MIB:.0f}, then {most / MIB:.0f} MiB")
    assert {200, 429} <= set(told) <= {200, 400, 429}
    assert not without_advice
    assert max(took) < PATIENCE_S
    assert most < before + 150 * MIB


def test_questions_that_were_asked_take_little_memory(server: RunningServer) -> None:
    before, sent = max(resident_bytes(server)), 0
    with requests.Session() as session:
        for number in range(600):
            where = [f"{number}{'p' * 500}:{'v' * 500}"] * 3
            query = {"model": f"{number}{'m' * 70}", "where": where, "cold": "true"}
            response = session.get(f"{server.url}/api/route", params=query, timeout=10)
            assert response.status_code == 503
            sent += len(response.request.url or "")
    after = max(resident_bytes(server))
    say(f"600 questions of {sent} bytes: the largest process grew by {(after - before) / MIB:.0f} MiB")
    assert after < before + 60 * MIB


def test_a_body_in_chunks_has_the_same_limit(server: RunningServer) -> None:
    for size, status in ((2**16, 400), (2**16 + 1, 413), (2**16 + 2, 413), (2**21, 413)):
        chunks = (b" " * min(1000, size - at) for at in range(0, size, 1000))
        response = requests.post(f"{server.url}/api/leases", data=chunks, timeout=60)
        assert (response.status_code, response.json()["error"][:3]) == (
            status,
            "bad" if status == 400 else "req",
        )


def test_leases_take_little_of_the_disk(server: RunningServer) -> None:
    body = {"model": LLAMA, "exclude": [f"{number}{'e' * 500}" for number in range(120)], "holder": "h"}
    kept, sent = [], 0
    for number in range(80):
        response = requests.post(
            f"{server.url}/api/leases", json=body, headers={"Idempotency-Key": f"k{number}"}, timeout=10
        )
        assert response.status_code == 201
        sent += len(response.request.body or b"")
        kept.append((server.data / "coordination.db").stat().st_size)
    say(f"80 leases of {sent} bytes: {(kept[-1] - kept[0]) / sent:.4f} bytes kept for each")
    assert kept[-1] - kept[0] < sent / 20
