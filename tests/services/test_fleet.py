"""The machines now, for those who show them and for those who give advice."""

import json
import time
from pathlib import Path

import pytest

from machines_server.core.machine import Machine, Registry
from machines_server.core.sample import LoadedModel, PollResult, RuntimeState, State
from machines_server.core.status import Status
from machines_server.inventory.machine_file import parse_machine
from machines_server.services.current_state import CurrentState
from machines_server.services.fleet import FleetService
from machines_server.services.poller import PollerMonitor
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.telemetry.latest import LatestReader
from tests.services.polled import TEXT, Polled


def test_a_new_machine_is_part_of_advice_at_once(tmp_path: Path, polled: Polled) -> None:
    assert polled.advised_by() == 1
    (tmp_path / "machines" / "two.yaml").write_text(TEXT.replace("one", "two"))
    live = polled.services.fleet.recent_fleet().state_of("two")
    assert live
    assert live.verdict.status is Status.UNKNOWN
    polled.writer.write([Registry((polled.machine, live.machine), loaded_at=time.time())])
    polled.poll(2, live.machine)
    live = polled.services.fleet.recent_fleet().state_of("two")
    assert live
    assert live.verdict.status is Status.ONLINE


def test_a_machine_that_cannot_be_shown_is_unknown_and_costs_no_other(
    tmp_path: Path, polled: Polled, caplog: pytest.LogCaptureFixture
) -> None:
    text = TEXT.replace("one", "odd")
    (tmp_path / "machines" / "odd.yaml").write_text(text)
    odd = parse_machine(text.encode(), "odd.yaml").machine
    assert odd
    polled.writer.write([Registry((polled.machine, odd), loaded_at=time.time())])
    ollama, model = odd.endpoints["ollama"], LoadedModel("m", expires_at="no time at all")
    answer = RuntimeState(models=(model,))
    for _ in range(3):
        polled.poll(1)
        polled.poll(1, odd)
        result = PollResult("odd", ollama, State.OK, time.time(), 0.01, None, answer, 3600.0)
        polled.writer.write([result])
        polled.end_cycle()
        shown = {
            one["name"]: one for one in json.loads(polled.services.fleet.infrastructure().json)["machines"]
        }
        assert (shown["one"]["status"], shown["odd"]["status"]) == ("online", "unknown")
        assert "its log says why" in shown["odd"]["status_reason"]
        assert polled.services.fleet.machine("odd")
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_what_cannot_be_shown_of_one_machine_spoils_no_other(tmp_path: Path, polled: Polled) -> None:
    text = TEXT.replace("one", "two").replace("network: {", "network: {port: 11434, ")
    (tmp_path / "machines" / "two.yaml").write_text(text)
    two = parse_machine(text.encode(), "two.yaml").machine
    assert two
    polled.writer.write([Registry((polled.machine, two), loaded_at=time.time())])
    answer = RuntimeState(models=(LoadedModel("m", "d", 1, 1, 1, "no moment at all"),))
    ollama, now = two.endpoints["ollama"], time.time()
    polled.writer.write([PollResult("two", ollama, State.OK, now, 0.01, None, answer, clock_ahead_s=3600.0)])
    polled.poll(4)
    polled.poll(4, two)
    polled.end_cycle()
    shown = {one["name"]: one for one in json.loads(polled.services.fleet.infrastructure().json)["machines"]}
    assert {name: one["status"] for name, one in shown.items()} == {"one": "online", "two": "unknown"}
    assert "its log says why" in shown["two"]["status_reason"]
    machine = polled.services.fleet.machine("two")
    assert machine
    assert json.loads(machine.json)["status"] == "unknown"


def test_a_file_that_cannot_be_written_as_yaml_is_given_as_json(tmp_path: Path) -> None:
    odd = Machine(
        name="odd",
        file="odd.yaml",
        role="r",
        hostname="127.0.0.1",
        port=1,
        endpoints={},
        models=(),
        declared={"name": "odd", "what": object()},
        declared_json={"name": '"odd"', "what": "null"},
    )
    registry = Registry((odd,))
    monitor = PollerMonitor(PollerLock(tmp_path / "poller.lock"), tmp_path, 5, 2)
    store = LatestReader(tmp_path / "t.db")
    current = CurrentState(lambda _: registry, lambda: registry, lambda: registry, store, monitor)
    assert FleetService(current, lambda _: registry, tmp_path).file("odd") == '{"name":"odd","what":null}'
