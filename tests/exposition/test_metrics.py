"""GET /metrics of a running server: what it counts, in all of its processes."""

import gzip
import json
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import psutil
import pytest
import requests

from machines_server.exposition.service import TEXT_TYPE
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.web.counting import RouteTable, route_names
from tests.bodies import gpu_body
from tests.exposition.reading import Exposition
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.readme import page
from tests.running import RunningServer, wait_for_status
from tests.web.raw import connect

REQUESTS = "machines_server_requests_total"


def scrape(server: RunningServer) -> Exposition:
    answer = server.get("/metrics")
    assert answer.headers["Content-Type"] == TEXT_TYPE
    return Exposition(answer.text)


def has_replaced(server: RunningServer, workers: set[int]) -> bool:
    """Return whether none of those workers answers any more."""
    return not workers & set(answering(server))


def answering(server: RunningServer) -> list[int]:
    """The processes that answer."""
    children = {child.pid for child in psutil.Process(server.process.pid).children()}
    return sorted(children - {server.poller_pid()})


def test_everything_is_there_and_promtool_finds_no_fault(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    server, ollama = shared_server, fakes.ollama("llama3.1:8b")
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(gpu_body(0, used_gb=3)), ollama))
    server.write("dead.yaml", machine_yaml("dead", fakes.listen(None), None))
    wait_for_status(server, "one", "online")
    wait_for_status(server, "dead", "offline")
    assert server.post("/api/leases", {"model": "llama3.1:8b", "ttl_s": 1}).status_code == 201
    assert server.post("/api/leases", {"model": "nothing:1b"}).status_code == 503
    assert server.post("/api/leases", {"nothing": 1}).status_code == 400
    wait_until(lambda: scrape(server).value("machines_server_leases_expired_total") == 1)
    found = scrape(server)
    found.check()
    assert found.value("machines_server_leases_granted_total") == 1
    assert found.value("machines_server_leases_active") == 0
    refused = "machines_server_lease_refusals_total"
    assert found.value(refused, reason="no_machine") == found.value(refused, reason="bad_parameter") == 1
    assert found.value(REQUESTS, method="POST", route="/api/leases", status="201") == 1
    assert found.value("machines_server_poller_state", state="running") == 1
    assert found.value("machines_server_store_ok") == 1
    assert found.value("machines_server_rollups_due") is not None
    assert found.sum("machines_server_store_size_bytes", database="telemetry") > 0
    assert found.sum("machines_server_store_wal_size_bytes", database="telemetry") > 0
    assert found.value("machines_server_store_dropped_items_total") == 0
    assert 0 <= (found.value("machines_server_last_cycle_age_seconds") or -1) < 60
    failures = "machines_server_poll_failures_total"
    assert (found.value(failures, endpoint="sidecar", reason="no_answer") or 0) >= 1
    polls = found.sum("machines_server_polls_total", endpoint="sidecar")
    assert polls > found.sum("machines_server_polls_total", endpoint="ollama") > 0
    for name in found.names():
        if name.startswith("machines_server_"):
            family = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
            assert f"`{family}" in page("prometheus.md"), f"docs/prometheus.md: {family}"


def test_head_gzip_and_host_names_are_as_everywhere(shared_server: RunningServer) -> None:
    url = f"{shared_server.url}/metrics"
    head = requests.head(url, timeout=60)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == TEXT_TYPE
    with requests.get(url, headers={"Accept-Encoding": "gzip"}, stream=True, timeout=60) as packed:
        assert packed.headers["Content-Encoding"] == "gzip"
        Exposition(gzip.decompress(packed.raw.read(decode_content=False)).decode())
    plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=60)
    assert "Content-Encoding" not in plain.headers
    assert requests.get(url, headers={"Host": "elsewhere.example.com"}, timeout=60).status_code == 421
    assert requests.post(url, timeout=60).status_code == 405


def test_answers_of_the_event_loop_of_flask_and_of_guards_are_counted(shared_server: RunningServer) -> None:
    def counts() -> Counter[tuple[str, str, str]]:
        found = scrape(shared_server)
        return Counter(
            {
                asked: int(found.sum(REQUESTS, method=asked[0], route=asked[1], status=asked[2]))
                for asked in expected
            }
        )

    def ask(method: str, path: str, route: str, **headers: str) -> requests.Response:
        response = requests.request(method, shared_server.url + path, headers=headers, timeout=60)
        asked["other" if method == "BREW" else method, route, str(response.status_code)] += 1
        return response

    def is_not_modified() -> bool:
        etag = ask("GET", "/api/infrastructure", "/api/infrastructure").headers["ETag"]
        again = ask("GET", "/api/infrastructure", "/api/infrastructure", **{"If-None-Match": etag})
        return again.status_code == 304

    expected = {
        ("GET", "/api/infrastructure", "200"),  # from the event loop
        ("GET", "/api/infrastructure", "304"),
        ("HEAD", "/api/infrastructure", "200"),  # by Flask
        ("GET", "/api/machines/NAME", "404"),
        ("GET", "/api/machines/NAME/history", "404"),
        ("GET", "/static/NAME", "200"),
        ("other", "/health", "405"),
        ("GET", "other", "404"),
        ("GET", "/api/machines", "421"),  # by a guard
    }
    before, asked = counts(), Counter[tuple[str, str, str]]()
    wait_until(is_not_modified)  # unless a cycle ends in between
    ask("GET", "/api/infrastructure?x=1", "/api/infrastructure")
    ask("HEAD", "/api/infrastructure", "/api/infrastructure")
    ask("GET", "/api/machines/a", "/api/machines/NAME")
    ask("GET", "/api/machines/b", "/api/machines/NAME")
    ask("GET", "/api/machines/a/history?metric=up", "/api/machines/NAME/history")
    ask("GET", "/static/app.js", "/static/NAME")
    ask("BREW", "/health", "/health")
    ask("GET", "/nothing", "other")
    ask("GET", "/static/", "other")
    ask("GET", "/api/machines", "/api/machines", Host="elsewhere.example.com")
    assert asked.keys() == expected
    assert counts() - before == asked


def test_a_request_that_waits_for_a_machine_is_one_request(shared_server: RunningServer) -> None:
    def counts() -> tuple[float, float]:
        found = scrape(shared_server)
        refused = found.sum("machines_server_lease_refusals_total", reason="no_machine")
        return found.sum(REQUESTS, route="/api/leases", status="503"), refused

    requests_before, refused_before = counts()
    asked = {"model": "nothing:1b", "wait_s": 1.5}  # it is asked again after every cycle
    assert shared_server.post("/api/leases", asked).status_code == 503
    assert counts() == (requests_before + 1, refused_before + 1)


def test_nothing_is_lost_or_counted_twice_over_workers_that_are_killed(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        asked = 0
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, None):
            wait_until(lambda: len(answering(server)) == 2)
            before = set(answering(server))
            for _ in range(20):
                asked += requests.get(f"{server.url}/api/system", timeout=60).ok
            assert scrape(server).value(REQUESTS, method="GET", route="/api/system", status="200") == asked
            if number:
                for pid in before:
                    os.kill(pid, number)
                wait_until(partial(has_replaced, server, before))
        old = set(answering(server))
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(answering(server)) == 2 and not old & set(answering(server)))
        found = scrape(server)
        assert found.value(REQUESTS, method="GET", route="/api/system", status="200") == asked
        duration = {"method": "GET", "route": "/api/system"}
        assert found.value("machines_server_request_duration_seconds_count", **duration) == asked
        assert found.sum("machines_server_request_duration_seconds_bucket", le="+Inf", **duration) == asked


def test_the_poller_goes_on_counting_where_one_that_was_killed_stopped(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        before = wait_until(lambda: cycles(server))
        poller = server.poller_pid()
        os.kill(poller, signal.SIGKILL)
        wait_until(lambda: server.poller_pid() not in (0, poller))
        assert wait_until(lambda: cycles(server) > before)
    # And over a restart of the server.
    before = counted_cycles(server)
    with RunningServer(tmp_path) as server:
        assert wait_until(lambda: cycles(server) > before)
        counts = server.data / "counts"
        assert counts.stat().st_mode & 0o077 == 0
        counts.write_bytes(b"\xff{")
        wait_until(lambda: cycles(server) > before)  # it is written anew


def cycles(server: RunningServer) -> float:
    return scrape(server).sum("machines_server_cycle_duration_seconds_count")


def counted_cycles(server: RunningServer) -> float:
    counts = json.loads((server.data / "counts").read_bytes())
    return float(sum(counts["cycles"]))


def test_a_client_that_hangs_up_or_reads_slowly_holds_nothing_up(shared_server: RunningServer) -> None:
    connections = [connect(shared_server.url) for _ in range(20)]
    for connection in connections:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert shared_server.get("/health").ok
    assert scrape(shared_server).value("machines_server_store_ok") == 1
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "/"),
        ("/api/machines", "/api/machines"),
        ("/api/machines/a%b", "/api/machines/NAME"),
        ("/api/machines/a/history", "/api/machines/NAME/history"),
        ("/api/machines/a/b/c", "other"),
        ("/api/leases/x/renew", "/api/leases/LEASE/renew"),
        ("/static/a/b.js", "/static/NAME"),
        ("/machines/new\nline", "/machines/NAME"),
        ("/metrics/", "other"),
        ("", "other"),
        ("/" * 10_000, "other"),
    ],
)
def test_a_path_is_counted_for_the_route_that_answers_it(path: str, name: str) -> None:
    rules = [rule.rule for rule in make_app(load_settings({})[0]).url_map.iter_rules()]
    assert route_names(rules)[RouteTable(rules).number_of(path)] == name
