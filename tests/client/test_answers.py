"""Every key of the JSON of an answer is an attribute of the same name."""

import copy
from dataclasses import fields
from typing import Any, get_args

import msgspec
import pytest

import machines_client
from machines_client import Client, fleet_answers, past_answers
from machines_server.contract import (
    events,
    health,
    history,
    host_services,
    leases,
    machines,
    routing,
    sessions,
    telemetry,
)
from tests.client.scripted_server import CANDIDATE, LEASE, ROUTE, Say, ScriptedServer
from tests.client.two import LLAMA, Two

Kind = type[Any]
ANSWERS: list[tuple[Kind, Kind]] = [
    (machines_client.Pick, routing.Route),
    (machines_client.Candidate, routing.CandidateMachine),
    (machines_client.Rejection, routing.RejectedMachine),
    (machines_client.PromisedGpu, leases.PromisedGpu),
    (machines_client.HeldLease, leases.HeldLease),
    (machines_client.GrantedLease, leases.GrantedLease),
    (machines_client.Leases, leases.Leases),
    (machines_client.MachineState, machines.LiveKeys),
    (machines_client.Machines, machines.Machines),
    (machines_client.Infrastructure, machines.Infrastructure),
    (machines_client.Problem, machines.MachineProblem),
    (machines_client.Model, history.Model),
    (machines_client.Models, history.Models),
    (machines_client.Series, history.Series),
    (machines_client.History, history.History),
    (machines_client.Histories, history.FleetHistory),
    (machines_client.MachineHistory, history.MachineHistory),
    (machines_client.Availability, history.MachineAvailability),
    (machines_client.Availability, history.Availability),
    (machines_client.FleetAvailability, history.FleetAvailability),
    (past_answers.StatusSeconds, history.StatusSeconds),
    (machines_client.Events, events.Events),
    *[(machines_client.Event, kind) for kind in get_args(events.Event)],
    (machines_client.LoginLink, sessions.LoginLink),
    (machines_client.LoggedOut, sessions.LoggedOut),
    (machines_client.HostServices, host_services.HostServices),
    (machines_client.System, telemetry.System),
    (machines_client.Health, health.Health),
    (machines_client.Health, health.NotReady),
    (fleet_answers.Poller, health.Poller),
    (fleet_answers.Store, health.Store),
    (fleet_answers.LastLoaded, history.LastLoaded),
]


@pytest.mark.parametrize(("ours", "json"), ANSWERS, ids=lambda kind: kind.__name__)
def test_every_key_is_an_attribute(ours: Kind, json: Kind) -> None:
    attributes = {one.name for one in fields(ours)} | {
        name for name, one in vars(ours).items() if isinstance(one, property)
    }
    keys = {one.encode_name for one in msgspec.structs.fields(json)}
    assert {"from_" if key == "from" else key for key in keys} <= attributes
    assert ours is machines_client.Rejection or "body" in attributes


def test_the_keys_of_an_operator_are_attributes_as_well(scripted: ScriptedServer) -> None:
    file = {
        "name": "box",
        "role": "r",
        "models": [],
        "hardware": {},
        "network": {},
        "tags": ["gpu"],
        "a b": 1,
    }
    scripted.replies = [Say({"machines": [file], "total": 1, "errors": [], "config_dir": "machines"})]
    answer = Client(scripted.url).machines()
    (box,) = answer.machines
    assert (box.tags, box.body["a b"], answer.total) == (["gpu"], 1, 1)
    with pytest.raises(AttributeError, match="has no key site"):
        _ = box.site
    assert getattr(box, "site", "warsaw") == "warsaw"
    again = copy.deepcopy(box)
    assert (again, again.tags) == (box, box.tags)


def test_an_event_has_the_keys_of_its_type_and_none_of_others(scripted: ScriptedServer) -> None:
    always = {"id": 1, "at": "2026-11-28T00:00:00Z", "machine": "box"}
    offline = {**always, "type": "offline", "before": "online", "reason": "it is gone"}
    changed = {**always, "type": "machine_changed", "file": "box.yaml", "keys": ["role"]}
    scripted.replies = [Say({"events": [offline, changed], "next": None, "truncated": False})]
    first, second = Client(scripted.url).events().events
    assert (first.before, first.reason, first.keys) == ("online", "it is gone", None)
    assert (second.before, second.file, second.keys) == (None, "box.yaml", ("role",))


def test_a_pick_has_the_name_of_its_machine_twice_also_if_it_is_not_the_first(two: Two) -> None:
    pick = two.client.pick(LLAMA, exclude="more", explain=True)
    assert pick.machine == pick.name == "less"
    assert pick.candidates[0].body["leases"] == pick.candidates[0].leases


def test_a_part_of_an_answer_has_its_json(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({**ROUTE, "candidates": [{**CANDIDATE, "new": 1}]})]
    assert Client(scripted.url).route("m").candidates[0].body["new"] == 1
    scripted.replies = [Say({**LEASE, "gpus": [{"uuid": "x", "index": 0, "vram_gb": 1, "new": 2}]})]
    assert Client(scripted.url).held_lease("abc").gpus[0].body["new"] == 2
