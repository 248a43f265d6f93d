"""Waiting requests: answered when they can be, in order, and never later than requested."""

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.day import LLAMA, QWEN, Host, loaded
from tests.day import Day as ADay
from tests.fakes import FakeFleet, wait_until
from tests.running import RunningServer, wait_for_status


@pytest.fixture
def day(shared_server: RunningServer, fakes: FakeFleet) -> ADay:
    return ADay(shared_server, fakes)


@pytest.fixture
def first_day(server: RunningServer, fakes: FakeFleet) -> ADay:
    """One without a past, or of which there is no other."""
    return ADay(server, fakes)


class Asked:
    """A request in a thread of its own."""

    def __init__(self, server: RunningServer, method: str, path: str, **options: Any) -> None:
        self._answer: Future[requests.Response] = Future()
        self.began = time.monotonic()
        arguments = method, server.url + path, options
        threading.Thread(target=self._ask, args=arguments, daemon=True).start()

    def _ask(self, method: str, url: str, options: dict[str, Any]) -> None:
        try:
            self._answer.set_result(requests.request(method, url, timeout=70, **options))
        except Exception as error:  # noqa: BLE001  given to whoever asks for the answer
            self._answer.set_exception(error)
        self.took_s = time.monotonic() - self.began

    @property
    def is_waiting(self) -> bool:
        return not self._answer.done()

    def answer(self, within_s: float = 20) -> requests.Response:
        return self._answer.result(within_s)


def lease(day: ADay, wait_s: float = 0, **more: Any) -> Asked:
    body = {"model": LLAMA, "wait_s": wait_s, "ttl_s": 600} | more
    return Asked(day.server, "POST", "/api/leases", json=body)


def a_machine_with_room_for_one(day: ADay, **declared: Any) -> Host:
    host = Host(day, "one", [4.0], limits={"max_leases": 1}, **declared)
    host.holds(loaded(LLAMA, gb=4))
    wait_for_status(day.server, "one", "online")
    wait_until(lambda: day.asked()["best"] == "one")
    return host


def test_a_question_is_answered_when_the_model_appears(day: ADay) -> None:
    host = Host(day, "one", [4.0], models=[QWEN])
    wait_for_status(day.server, "one", "online")
    asked = Asked(day.server, "GET", f"/api/route?model={QWEN}&wait_s=60")
    time.sleep(0.5)
    assert asked.is_waiting
    host.holds(loaded(QWEN))
    assert asked.answer(60).json()["machine"] == "one"


def test_a_question_without_a_result_is_answered_when_its_time_is_up(day: ADay) -> None:
    Host(day, "one", [4.0], models=[QWEN])
    wait_for_status(day.server, "one", "online")
    asked = Asked(day.server, "GET", f"/api/route?model={QWEN}&wait_s=1.5")
    answer = asked.answer()
    assert (answer.status_code, answer.json()["error"]) == (503, "no_machine")
    assert 1.5 <= asked.took_s < 15


def test_a_misspelt_model_is_not_waited_for(day: ADay) -> None:
    host = Host(day, "one", [4.0])
    host.holds(loaded(LLAMA))
    wait_until(lambda: day.asked()["best"] == "one")
    asked = Asked(day.server, "GET", "/api/route?model=llama3.1:7b&wait_s=60")
    assert asked.answer(15).json()["did_you_mean"] == [LLAMA]


@pytest.mark.parametrize("wait_s", ["-1", "61", "soon", "nan", "1e999"])
def test_an_invalid_wait_is_refused_at_once(day: ADay, wait_s: str) -> None:
    for path in (f"/api/route?model={LLAMA}&wait_s={wait_s}", f"/api/events?wait_s={wait_s}"):
        answer = Asked(day.server, "GET", path).answer(15)
        assert (answer.status_code, answer.json()["parameter"]) == (400, "wait_s")
    refused = Asked(day.server, "POST", "/api/leases", json={"model": LLAMA, "wait_s": wait_s}).answer(15)
    assert (refused.status_code, refused.json()["parameter"]) == (400, "wait_s")


def test_those_who_wait_for_the_same_are_served_in_their_order(tmp_path: Path, fakes: FakeFleet) -> None:
    with RunningServer(tmp_path, MACHINES_WORKERS="1") as server:  # each worker has queues of its own
        day = ADay(server, fakes)
        a_machine_with_room_for_one(day)
        held = lease(day).answer().json()["lease"]
        waiting = []
        for number in range(3):
            waiting.append(lease(day, 60, holder=str(number)))
            wait_until(lambda: server.open_connections() == len(waiting))
            time.sleep(0.3)
        for number, next_one in enumerate(waiting):
            requests.delete(f"{day.server.url}/api/leases/{held}", timeout=60)
            granted = next_one.answer().json()
            assert granted["holder"] == str(number)
            assert all(one.is_waiting for one in waiting[number + 1 :])
            held = granted["lease"]
        assert len(day.server.get("/api/leases").json()["leases"]) == 1


def test_events_are_waited_for(first_day: ADay) -> None:
    host = a_machine_with_room_for_one(first_day)
    wait_until(lambda: first_day.server.get("/api/events?type=model_loaded").json()["events"])
    newest = first_day.server.get("/api/events?limit=1").json()["events"][0]["id"]
    asked = Asked(first_day.server, "GET", f"/api/events?after={newest}&machine=one&wait_s=30")
    time.sleep(0.5)
    assert asked.is_waiting
    host.holds(loaded(QWEN))
    assert {one["machine"] for one in asked.answer().json()["events"]} == {"one"}


def test_who_leaves_gets_no_lease(day: ADay) -> None:
    a_machine_with_room_for_one(day)
    held = lease(day).answer().json()["lease"]
    body = json.dumps({"model": LLAMA, "wait_s": 30, "holder": "gone"}).encode()
    head = f"POST /api/leases HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", int(day.server.settings["MACHINES_PORT"]))) as connection:
        connection.sendall(head + body)
        time.sleep(0.5)
    time.sleep(0.3)
    requests.delete(f"{day.server.url}/api/leases/{held}", timeout=60)
    time.sleep(1)
    assert day.server.get("/api/leases").json()["leases"] == []


def test_a_server_that_ends_answers_those_who_wait(tmp_path: Path, fakes: FakeFleet) -> None:
    with RunningServer(tmp_path) as server:
        day = ADay(server, fakes)
        a_machine_with_room_for_one(day)
        lease(day).answer()
        waiting = [lease(day, 60, holder=str(number)) for number in range(10)]
        wait_until(lambda: server.open_connections() == len(waiting))
        time.sleep(0.5)
        began = time.monotonic()
        assert all(one.is_waiting for one in waiting)
    assert {one.answer(5).status_code for one in waiting} == {503}
    assert time.monotonic() - began < 30


def test_whoever_waited_in_a_worker_that_is_killed_sees_a_clear_end(first_day: ADay) -> None:
    a_machine_with_room_for_one(first_day)
    held = lease(first_day).answer().json()["lease"]
    waiting = [lease(first_day, 15, holder=str(number)) for number in range(8)]
    time.sleep(1)
    main = psutil.Process(first_day.server.process.pid)
    for worker in main.children():
        os.kill(worker.pid, signal.SIGKILL)
    ends = []
    for one in waiting:
        try:
            ends.append(one.answer(20).status_code)
        except requests.ConnectionError:
            ends.append(0)
    assert set(ends) <= {0, 503}
    wait_until(lambda: first_day.server.get("/health").status_code == 200)
    assert [one["lease"] for one in first_day.server.get("/api/leases").json()["leases"]] == [held]


def test_many_who_wait_hold_no_thread(day: ADay) -> None:
    a_machine_with_room_for_one(day)
    held = lease(day).answer().json()["lease"]
    with ThreadPoolExecutor(100) as threads:
        ask = day.server.url + "/api/leases"
        bodies = [{"model": LLAMA, "wait_s": 12, "ttl_s": 600, "holder": str(n)} for n in range(100)]
        asked = [threads.submit(requests.post, ask, json=body, timeout=30) for body in bodies]
        time.sleep(1.5)
        began = time.monotonic()
        assert day.server.get("/api/leases").json()["total"] == 1
        assert day.server.get("/api/infrastructure").status_code == 200
        assert time.monotonic() - began < 6
        requests.delete(f"{ask}/{held}", timeout=60)
        answers = [one.result() for one in asked]
    granted = [one.json() for one in answers if one.status_code == 201]
    assert len(granted) == 1
    assert {one.status_code for one in answers} == {201, 503}
