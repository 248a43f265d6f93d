"""The answers of a running server are what the classes of contract/ say: no key missing, none extra."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from machines_server.contract.encoding import encode
from machines_server.contract.errors import (
    BadParameterBody,
    ErrorBody,
    TooManyBody,
    UnknownMachineBody,
    answer_to,
)
from machines_server.contract.events import Event, Events
from machines_server.contract.health import Health, NotReady
from machines_server.contract.history import (
    Availability,
    FleetAvailability,
    FleetHistory,
    History,
    Models,
    Point,
)
from machines_server.contract.host_services import HostServices, MachineService
from machines_server.contract.leases import GrantedLease, HeldLease, Leases
from machines_server.contract.machines import DeclaredMachine, Infrastructure, LiveKeys, Machines
from machines_server.contract.prometheus import SidecarTarget
from machines_server.contract.routing import NoMachine, Route
from machines_server.contract.telemetry import System, Telemetry
from machines_server.core.past.events import EVENT_TYPES
from machines_server.core.past.metrics import METRICS
from machines_server.errors import (
    ConflictError,
    SettingsError,
    StoreError,
    TooManyError,
    TooMuchError,
    UnknownLeaseError,
)
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from tests.contract.answering import MODEL, World, live_through
from tests.fakes import FakeFleet
from tests.openapi.description import DESCRIPTION
from tests.running import RunningServer

LIVE_KEYS = set(LiveKeys.__struct_fields__)
SOMETIMES = {"gpu", "gpu_unreadable"}
"""Keys of telemetry that only some hosts have."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("contract")
    # So that on a busy machine, too, only the host that dies misses a poll.
    with FakeFleet() as fakes, RunningServer(folder, MACHINES_POLL_INTERVAL_S="2") as server:
        world = World(server, {})
        live_through(world, fakes)
        yield world


def as_declared(body: bytes, kind: Any) -> Any:
    """The answer read as that class, which has every key of it and no other, with values of its types."""
    found = msgspec.json.decode(body, type=kind)
    assert json.loads(encode(found)) == json.loads(body)
    check_descriptions(kind)
    return found


def check_descriptions(kind: Any) -> None:
    """A class and those in it have a JSON Schema, in which each is described."""
    for name, part in msgspec.json.schema(kind)["$defs"].items():
        assert part.get("description"), f"{name} has no docstring"


def check_machine(world: World, body: dict[str, Any], *, is_live: bool) -> None:
    """A machine has the keys of its file as they are, and the live ones if it is shown live."""
    declared = msgspec.convert(body, DeclaredMachine)
    check_descriptions(DeclaredMachine)
    expected = world.files[declared.name] | {"_config_file": declared.config_file}
    if is_live and "services" in expected:
        check_services(body.pop("services"), expected.pop("services"))
    live = {key: value for key, value in body.items() if is_live and key in LIVE_KEYS}
    assert {key: value for key, value in body.items() if key not in live} == expected
    if is_live:
        assert set(live) == LIVE_KEYS
        as_declared(json.dumps(live).encode(), LiveKeys)
        if declared.network.get("sidecar") is False:
            assert live["telemetry"] == {}
        else:
            assert set(live["telemetry"]) | SOMETIMES == set(Telemetry.__struct_fields__)


def check_services(live: list[dict[str, Any]], declared: list[dict[str, Any]]) -> None:
    """Each service has the keys of its file as they are, and the live ones."""
    for shown, expected in zip(live, declared, strict=True):
        service = msgspec.convert(shown, MachineService)
        assert shown == expected | {
            "status": service.status,
            "message": service.message,
            "since": service.since,
        }
    assert [one["status"] for one in live] == ["active", "inactive"]


def check_all_services(world: World, path: str) -> None:
    found = as_declared(world.get(path), HostServices)
    shown = [(name, one.machine, one.status) for name, one in found.services.items()]
    assert shown == [("web", "serving", "active"), ("gone", "serving", "inactive")]


def check_machines(world: World, path: str) -> None:
    found = as_declared(world.get(path), Machines[dict[str, Any]])
    assert {one["name"] for one in found.machines} == set(world.files)
    for one in found.machines:
        check_machine(world, one, is_live=False)
    assert [one.file for one in found.errors if one.severity == "error"] == ["broken.yaml"]


def check_infrastructure(world: World, path: str) -> None:
    found = as_declared(world.get(path), Infrastructure[dict[str, Any]])
    for one in found.machines:
        check_machine(world, one, is_live=True)
    states = {one["name"]: one["ollama"]["state"] for one in found.machines}
    assert (states["full"], states["without_gpu"], states["dying"]) == ("ok", "disabled", "unreachable")
    assert found.poller.state == "running"


def check_machine_alone(world: World, path: str) -> None:
    for name in world.files:
        check_machine(world, json.loads(world.get(path.replace("<name>", name))), is_live=True)


def check_file(world: World, path: str) -> None:
    assert b"rack:" in world.get(path.replace("<name>", "full"))


def check_system(world: World, path: str) -> None:
    body = world.get(path)
    as_declared(body, System)
    assert set(json.loads(body)) | SOMETIMES == set(System.__struct_fields__)


def check_description(world: World, path: str) -> None:
    assert json.loads(world.get(path)) == DESCRIPTION.document


def check_health(world: World, path: str) -> None:
    as_declared(world.get(path), Health)


def check_history(world: World, path: str) -> None:
    path = path.replace("<name>", "full")
    every = as_declared(world.get(f"{path}?metric={','.join(METRICS)}"), History[list[Point]])
    measured = {one.metric for one in every.series if one.points}
    assert measured == set(METRICS), "add it to sidecar_body or gpu_body of tests/bodies.py"
    assert {one.gpu for one in every.series} == {None, 0, 1}


def check_fleet_history(world: World, path: str) -> None:
    query = f"metric={','.join(METRICS)}&machine=full,dying"
    found = as_declared(world.get(f"{path}?{query}"), FleetHistory[list[Point]])
    assert [one.machine for one in found.machines] == ["full", "dying"]
    assert {one.metric for one in found.machines[0].series if one.points} == set(METRICS)


def check_availability(world: World, path: str) -> None:
    found = as_declared(world.get(path.replace("<name>", "dying")), Availability)
    assert found.outages == 1


def check_fleet_availability(world: World, path: str) -> None:
    found = as_declared(world.get(path), FleetAvailability)
    assert {one.machine for one in found.machines} == {*world.files, "removed"}
    assert [one.machine for one in found.machines if one.outages] == ["dying"]


def check_events(world: World, path: str) -> None:
    found = as_declared(world.get(f"{path}?limit=1000"), Events[Event])
    assert {one.__struct_config__.tag for one in found.events} >= {*EVENT_TYPES} - {"unknown"}
    assert (found.next, found.truncated) == (None, False)
    first = as_declared(world.get(f"{path}?limit=1&after=0"), Events[Event])
    assert (first.next, first.truncated) == (first.events[0].id, True)


def check_models(world: World, path: str) -> None:
    found = {one.model: one for one in as_declared(world.get(path), Models).models}
    assert found[MODEL].loaded == ["full"]
    assert found[MODEL].last_loaded
    assert found["qwen2.5:7b"].last_loaded is None


def check_route(world: World, path: str) -> None:
    assert as_declared(world.get(f"{path}?model={MODEL}"), Route).machine == "full"
    as_declared(world.get(f"{path}?model={MODEL}&min_free_vram_gb=90", 503), NoMachine)


def check_leases(world: World, path: str) -> None:
    asked = {"model": MODEL, "min_free_vram_gb": 1}
    granted = as_declared(world.send("POST", path, 201, json=asked), GrantedLease)
    one = f"{path}/{granted.lease}"
    as_declared(world.get(path), Leases)
    as_declared(world.get(one), HeldLease)
    as_declared(world.send("POST", f"{one}/renew", 200, json={}), HeldLease)
    as_declared(world.send("DELETE", one, 200), HeldLease)


def check_targets(world: World, path: str) -> None:
    targets = [as_declared(json.dumps(one).encode(), SidecarTarget) for one in json.loads(world.get(path))]
    assert [one.labels.machine for one in targets] == sorted(world.files.keys() - {"without_sidecar"})


CHECKS: dict[str, Callable[[World, str], None]] = {
    "/api/machines": check_machines,
    "/api/infrastructure": check_infrastructure,
    "/api/services": check_all_services,
    "/api/machines/<name>": check_machine_alone,
    "/api/machines/<name>/file": check_file,
    "/api/system": check_system,
    "/api/prometheus/sd": check_targets,
    "/openapi.json": check_description,
    "/health": check_health,
    "/health/ready": check_health,
    "/api/machines/<name>/history": check_history,
    "/api/machines/<name>/availability": check_availability,
    "/api/history": check_fleet_history,
    "/api/availability": check_fleet_availability,
    "/api/events": check_events,
    "/api/models": check_models,
    "/api/route": check_route,
    "/api/leases": check_leases,
}
WITH_LEASES = {"/api/leases/<lease>", "/api/leases/<lease>/renew"}
PAGES = {
    *("/", "/models", "/events", "/compare", "/leases", "/machines/<name>", "/static/<path:name>"),
    *("/login", "/docs"),
}
OF_THOSE_WHO_SIGN = {"/api/login", "/api/logout"}
"""Compared where requests are signed."""
TEXTS = {"/metrics"}
"""No JSON; tests/exposition/ has their tests."""


@pytest.mark.parametrize("path", CHECKS)
def test_the_answer_is_what_its_class_says(world: World, path: str) -> None:
    CHECKS[path](world, path)


def test_every_route_is_checked() -> None:
    app = make_app(load_settings({})[0])
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    assert routes == CHECKS.keys() | WITH_LEASES | PAGES | OF_THOSE_WHO_SIGN | TEXTS, (
        "compare each answer with its class in CHECKS"
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "code"),
    [
        ("GET", "/api/nothing", 404, ErrorBody, "not_found"),
        ("PUT", "/api/machines", 405, ErrorBody, "method_not_allowed"),
        ("GET", "/api/machines/nobody", 404, UnknownMachineBody, "unknown_machine"),
        ("GET", "/api/machines/nobody/history", 404, UnknownMachineBody, "unknown_machine"),
        ("GET", "/api/machines/full/history?step=0", 400, BadParameterBody, "bad_parameter"),
        ("GET", "/api/events?machine=nobody", 404, UnknownMachineBody, "unknown_machine"),
        ("GET", "/api/history?machine=nobody", 404, UnknownMachineBody, "unknown_machine"),
        ("GET", "/api/availability?step=1", 400, BadParameterBody, "bad_parameter"),
        ("GET", "/api/leases/none", 404, ErrorBody, "unknown_lease"),
        ("GET", "/api/events?typ=online", 400, BadParameterBody, "bad_parameter"),
        ("GET", "/api/route?model=m&min_context=x", 400, BadParameterBody, "bad_parameter"),
        ("GET", "/api/route?model=llama%203.1", 400, BadParameterBody, "bad_parameter"),
        ("DELETE", "/api/leases/none", 404, ErrorBody, "unknown_lease"),
        ("POST", "/api/leases/none/renew", 404, ErrorBody, "unknown_lease"),
        ("POST", "/api/leases", 400, BadParameterBody, "bad_parameter"),
    ],
)
def test_an_error_is_what_its_class_says(
    world: World, method: str, path: str, status: int, kind: type[ErrorBody], code: str
) -> None:
    assert as_declared(world.send(method, path, status), kind).error == code


def test_errors_from_outside_of_flask_have_the_same_form(world: World) -> None:
    foreign = as_declared(world.get("/health", 421, Host="elsewhere.example.com"), ErrorBody)
    assert foreign.error == "misdirected_request"
    large = as_declared(world.send("POST", "/api/leases", 413, data=b" " * 2**17), ErrorBody)
    assert large.error == "request_entity_too_large"


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (TooMuchError("ask for less"), 400, ErrorBody, "too_much"),
        (ConflictError("lease_broken", "the machine is gone"), 409, ErrorBody, "lease_broken"),
        (TooManyError("too_many_leases", "later", 0.2), 429, TooManyBody, "too_many_leases"),
        (UnknownLeaseError("it has ended"), 404, ErrorBody, "unknown_lease"),
        (StoreError("disk full"), 503, ErrorBody, "store_unavailable"),
        (StoreError("The engine is of no use."), 503, ErrorBody, "store_unavailable"),
    ],
)
def test_an_exception_is_rendered_from_its_fields(
    error: Exception, status: int, kind: type[ErrorBody], code: str
) -> None:
    answer = answer_to(error)
    assert answer
    assert answer.status == status
    told = as_declared(encode(answer.content), kind)
    assert told.error == code
    assert not told.message.endswith("..")
    assert answer.retry_after_s == (1 if status == 429 else None)


def test_what_is_our_own_fault_is_no_answer() -> None:
    assert answer_to(SettingsError("wrong")) is None
    assert answer_to(KeyError("x")) is None


def test_a_server_that_is_not_ready_says_so_in_its_class(tmp_path: Path) -> None:
    with RunningServer(tmp_path, MACHINES_POLLER="off") as server:
        response = server.get("/health/ready")
        assert response.status_code == 503
        assert as_declared(response.content, NotReady).poller.state == "stopped"
