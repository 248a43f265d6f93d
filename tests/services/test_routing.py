"""Advice to callers that ask again, that only look, or that ask for what no machine has."""

import json
import threading
import time
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.core.routing.versions import Version
from machines_server.core.sample import GIB, ModelSize, State, StoredModel
from machines_server.core.status import Status
from machines_server.errors import NoMachineError
from machines_server.services.routing import Routing
from machines_server.store.api import Chooser
from machines_server.store.sqlite.coordination.leases import LeaseStore
from machines_server.store.values import LeaseRequest, LeaseSnapshot
from tests.core.routing.fleets import LLAMA, a_fleet, a_live, a_model

PHI = "phi3:mini"


def routing_of(folder: Path, fleet: Fleet) -> Routing:
    return Routing(lambda: fleet, lambda _: fleet, LeaseStore(folder / "coordination.db"))


@pytest.fixture
def routing(tmp_path: Path) -> Routing:
    states = [a_live(name, [free], [a_model()]) for name, free in (("a", 20), ("b", 10), ("c", 5))]
    now = time.time()
    return routing_of(tmp_path, a_fleet(*(replace(one, sampled_at=now) for one in states)))


def ask(routing: Routing, **query: str) -> dict[str, Any]:
    reply = routing.route({name: [text] for name, text in query.items()})
    answer: dict[str, Any] = json.loads(reply.json)
    return answer | {"retry": reply.retry_after_s}


def test_callers_without_leases_are_spread_over_the_machines(routing: Routing) -> None:
    assert [ask(routing, model=LLAMA)["machine"] for _ in range(6)] == ["a", "b", "c"] * 2
    first = ask(routing, model=LLAMA)
    assert [one["name"] for one in first["candidates"]] == ["a", "b", "c"]
    assert {one["leases"] for one in first["candidates"]} == {0}


def test_who_asks_again_gets_the_same_machine(routing: Routing) -> None:
    assert [ask(routing, model=LLAMA, holder="me")["machine"] for _ in range(3)] == ["a"] * 3
    assert ask(routing, model=LLAMA, holder="another")["machine"] == "b"
    assert ask(routing, model=LLAMA, min_free_vram_gb="1", holder="me")["machine"] == "c"


def test_a_question_of_many_at_once_is_answered_once(tmp_path: Path) -> None:
    fleet = a_fleet(*(a_live(f"m{number}", [20], [a_model()]) for number in range(100)))
    searches, together = list[str](), threading.Barrier(8)

    def look_for(model: str) -> None:
        time.sleep(0.2)  # one answer takes long enough for all others to be asked for
        searches.append(model)

    routing = Routing(
        lambda: fleet, lambda _: fleet, LeaseStore(tmp_path / "coordination.db"), look_for=look_for
    )

    def ask_together(model: str) -> int:
        together.wait(60)
        return ask(routing, model=model)["retry"] or 0

    with ThreadPoolExecutor(8) as threads:
        for model in (PHI, "qwen3:8b"):
            assert len(set(threads.map(ask_together, [model] * 8))) == 1
        assert searches == [PHI, "qwen3:8b"]
        list(threads.map(ask_together, [f"{number}:8b" for number in range(8)]))
        assert len(searches) == 10


def test_who_only_looks_does_not_count(routing: Routing) -> None:
    assert [ask(routing, model=LLAMA, explain="true")["machine"] for _ in range(3)] == ["a"] * 3
    assert ask(routing, model=LLAMA)["machine"] == "a"
    assert ask(routing, model=LLAMA, explain="true")["machine"] == "b"


def test_leases_are_given_without_regard_to_advice(routing: Routing) -> None:
    assert ask(routing, model=LLAMA)["machine"] == "a"
    assert routing.lease({"model": LLAMA}, None).machine == "a"


def test_without_a_model_there_is_room_to_find(routing: Routing) -> None:
    answer = ask(routing, min_free_vram_gb="8")
    assert (answer["machine"], answer["model"], answer["warm"]) == ("a", None, None)
    assert [one["name"] for one in answer["candidates"]] == ["a", "b"]


def test_a_model_that_nobody_has_is_not_worth_waiting_for(tmp_path: Path) -> None:
    busy = a_live("busy", [20], [a_model()], max_leases=0)
    routing = routing_of(tmp_path, a_fleet(a_live("a"), busy, on_disk={"a": []}))
    answer = ask(routing, model="llama3.1:7b")
    assert (answer["error"], answer["retry"], answer["retry_after_s"]) == ("no_machine", None, None)
    assert answer["did_you_mean"] == [LLAMA]
    unknown = a_fleet(a_live("a"), a_live("new", status=Status.UNKNOWN, reason="not polled yet"))
    assert ask(routing_of(tmp_path, unknown), model="llama3.1:7b")["retry_after_s"] == 5


def test_a_miss_says_when_a_machine_could_load_the_model(tmp_path: Path) -> None:
    on_disk = {"a": [StoredModel(PHI, "d1", 2 * GIB)]}
    routing = routing_of(tmp_path, a_fleet(a_live("a", [20]), a_live("b"), on_disk=on_disk))
    answer = ask(routing, model=PHI)
    assert answer["message"].endswith("With cold=true, a could load it.")
    assert answer["retry_after_s"] is None
    assert ask(routing, model=PHI, cold="true")["machine"] == "a"
    full = routing_of(tmp_path, a_fleet(a_live("a", [1], ram_gb=1), on_disk=on_disk))
    assert "cold=true" not in ask(full, model=PHI)["message"]


class LockedStore(LeaseStore):
    """Knows whether it is choosing a machine, when all other writers wait."""

    is_choosing = False

    def reserve(self, fleet: Fleet, request: LeaseRequest, chooser: Chooser) -> Lease:
        return super().reserve(fleet, request, NotedChooser(self, chooser))


class NotedChooser:
    """Tells a store when it chooses."""

    def __init__(self, store: LockedStore, chooser: Chooser) -> None:
        self._store, self._chooser = store, chooser
        self.again = chooser.again

    def candidates(self, known: LeaseSnapshot) -> Sequence[Candidate]:
        self._store.is_choosing = True
        try:
            return self._chooser.candidates(known)
        finally:
            self._store.is_choosing = False


def test_whether_a_machine_could_load_the_model_is_found_while_others_may_write(tmp_path: Path) -> None:
    store, was_choosing = LockedStore(tmp_path / "coordination.db"), []

    class WatchedFleet(Fleet):
        def sizes_of(self, key: str, versions: Set[Version]) -> list[ModelSize]:
            was_choosing.append(store.is_choosing)
            return super().sizes_of(key, versions)

    known = a_fleet(a_live("a", [20]), on_disk={"a": [StoredModel(PHI, "d1", 2 * GIB)]})
    fleet = WatchedFleet(known.states, known.libraries)
    routing = Routing(lambda: fleet, lambda _: fleet, store)
    with pytest.raises(NoMachineError, match="With cold=true, a could load it"):
        routing.lease({"model": PHI}, None)
    assert was_choosing == [False]


def test_a_lease_that_was_granted_is_told_even_if_it_cannot_be_read_again(tmp_path: Path) -> None:
    fleet, path = a_fleet(a_live("a", [20], [a_model()])), tmp_path / "coordination.db"

    def break_off(_: Sequence[str]) -> None:
        path.rename(tmp_path / "away")
        path.mkdir()

    routing = Routing(lambda: fleet, lambda _: fleet, LeaseStore(path), poll_soon=break_off)
    granted = routing.lease({"model": LLAMA, "min_free_vram_gb": 3}, None)
    assert (granted.machine, [gpu.vram_gb for gpu in granted.gpus]) == ("a", [3])


def test_machines_that_do_not_answer_or_lack_the_model_are_not_polled_at_once(tmp_path: Path) -> None:
    fleet = a_fleet(
        a_live("dead", status=Status.OFFLINE),
        a_live("unreachable", ollama=State.UNREACHABLE),
        a_live("empty"),
        a_live("full", [1], declares=[PHI]),
        sizes=(ModelSize(PHI, None, 8192, 9 * GIB, None, 0.0),),
    )
    polled: list[str] = []
    store = LeaseStore(tmp_path / "coordination.db")
    routing = Routing(lambda: fleet, lambda _: fleet, store, poll_soon=polled.extend)
    assert ask(routing, model=PHI, cold="true")["error"] == "no_machine"
    assert polled == ["full"]


def test_an_answer_prepared_before_a_lease_was_taken_is_not_given_after(tmp_path: Path) -> None:
    before, after = a_fleet(a_live("a", [20], [a_model()])), a_fleet(a_live("a", [18], [a_model()]))
    recent = [before]

    def recent_fleet(prepare: Callable[[Fleet], None]) -> Fleet:
        if recent[0] is before:
            prepare(after)
        return recent[0]

    routing = Routing(lambda: after, recent_fleet, LeaseStore(tmp_path / "coordination.db"))
    assert [ask(routing, model=LLAMA)["candidates"][0]["free_vram_gb"] for _ in range(2)] == [20, 20]
    routing.lease({"model": LLAMA, "min_free_vram_gb": 10}, None)
    recent[0] = after
    assert ask(routing, model=LLAMA)["candidates"][0]["free_vram_gb"] == 8


def test_what_others_learned_a_moment_ago_counts_before_anything_is_refused(tmp_path: Path) -> None:
    offline = a_fleet(a_live("a", status=Status.OFFLINE, reason="connection refused"))
    newest = a_fleet(a_live("a", [20], [a_model()]))
    known, asked = [offline], list[str]()

    def newest_fleet() -> Fleet:
        asked.append("newest")
        return newest

    store = LeaseStore(tmp_path / "coordination.db")
    routing = Routing(lambda: known[0], lambda _: known[0], store, newest_fleet=newest_fleet)
    assert ask(routing, model=LLAMA)["machine"] == "a"
    granted = routing.lease({"model": LLAMA}, None)
    assert granted.machine == "a"
    assert routing.renew(granted.lease, {}).lease == granted.lease
    assert len(asked) == 3
    known[0] = newest
    assert ask(routing, model=LLAMA)["machine"] == routing.lease({"model": LLAMA}, None).machine == "a"
    routing.renew(granted.lease, {})
    assert len(asked) == 3, "nothing was refused"
    with pytest.raises(NoMachineError):
        routing.lease({"model": PHI}, None)
    assert ask(routing, model=PHI)["error"] == "no_machine"
    assert len(asked) == 5
