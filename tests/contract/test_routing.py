"""The answers of routing are what the classes of the contract say: same keys, same order, same values."""

import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from machines_server.contract.encoding import encode
from machines_server.contract.leases import GrantedLease, HeldLease, Leases
from machines_server.contract.routing import NoMachine, Route
from machines_server.core.routing.answer import RejectionCode
from machines_server.core.routing.fleet import Fleet
from machines_server.core.sample import GIB, StoredModel
from machines_server.core.status import Status
from machines_server.errors import NoMachineError
from machines_server.services.routing import Routing
from machines_server.store.sqlite.coordination.leases import LeaseStore
from tests.core.routing.fleets import LLAMA, a_fleet, a_live, a_model

QWEN = "qwen2.5:7b"


def fleet() -> Fleet:
    states = (
        a_live("holder", [20, 4], [a_model(), a_model("phi3:mini", gb=3)], declares=[QWEN]),
        a_live("cpu", [], declares=[QWEN], ram_gb=64),
        a_live("unmeasured", None, [a_model()]),
        a_live("gone", status=Status.OFFLINE, reason="sidecar: no route to host\x1b[31m"),
    )
    on_disk = {"holder": [StoredModel(QWEN, "d1", 5 * GIB)], "cpu": [StoredModel(QWEN, "d1", 5 * GIB)]}
    now = time.time()
    return a_fleet(*(replace(state, sampled_at=now) for state in states), on_disk=on_disk)


@pytest.fixture
def routing(tmp_path: Any) -> Routing:
    known = fleet()
    return Routing(lambda: known, lambda _: known, LeaseStore(tmp_path / "coordination.db"))


def as_declared(json: bytes, kind: type[Any]) -> Any:
    """The answer read as that class, which has every key of it, in its order, and no other."""
    read = msgspec.json.decode(json, type=kind)
    assert encode(read) == json
    return read


@pytest.mark.parametrize("query", [{"model": [LLAMA]}, {"model": [QWEN], "cold": ["true"]}])
def test_advice_is_a_route(routing: Routing, query: dict[str, list[str]]) -> None:
    reply = routing.route(query)
    assert reply.is_found
    answer = as_declared(reply.json, Route)
    best = answer.candidates[0]
    assert (answer.machine, answer.url, answer.warm) == (best.name, best.url, best.warm)


def test_only_a_machine_that_has_to_load_the_model_says_what_that_takes(routing: Routing) -> None:
    warm = as_declared(routing.route({"model": [LLAMA]}).json, Route).candidates[0]
    assert msgspec.UNSET is warm.fits is warm.needs_gb is warm.load_s
    cold = as_declared(routing.route({"model": [QWEN], "cold": ["true"]}).json, Route).candidates[0]
    assert (cold.fits, cold.needs_gb, cold.needs_from, cold.load_s) == ("free", 6.25, "estimated", 6.2)
    assert (cold.evicts, cold.load_uncertainty_s) == ([], None)


def test_when_no_machine_is_fit_the_answer_says_why_of_each(routing: Routing) -> None:
    reply = routing.route({"model": [LLAMA], "min_free_vram_gb": ["100"]})
    assert not reply.is_found
    answer = as_declared(reply.json, NoMachine)
    codes = {one.name: one.code for one in answer.rejected}
    assert codes["holder"] is RejectionCode.NOT_ENOUGH_VRAM
    assert answer.rejected[-1].reason == r"sidecar: no route to host\x1b[31m"
    assert answer.retry_after_s is None


def test_a_lease_is_the_same_granted_listed_renewed_and_released(routing: Routing) -> None:
    body = {"model": LLAMA, "min_free_vram_gb": 4, "holder": "me"}
    granted = as_declared(encode(routing.lease(body, "key")), GrantedLease)
    assert [gpu.vram_gb for gpu in granted.gpus] == [4.0]
    assert granted.candidates[0].name == granted.machine == "holder"
    (listed,) = as_declared(encode(routing.leases()), Leases).leases
    assert (listed.lease, listed.gpus, listed.created_at) == (
        granted.lease,
        granted.gpus,
        granted.created_at,
    )
    repeated = as_declared(encode(routing.lease(body, "key")), GrantedLease)
    assert (repeated.lease, repeated.candidates, repeated.rejected) == (granted.lease, [], [])
    assert as_declared(encode(routing.renew(granted.lease, {"ttl_s": 9})), HeldLease).ttl_s == 9
    assert as_declared(encode(routing.release(granted.lease)), HeldLease).gpus == []


def test_a_lease_says_what_it_promises_beside_gpus_only_if_it_promises_any(routing: Routing) -> None:
    body = {"model": QWEN, "cold": True, "exclude": ["holder"]}
    on_cpu = as_declared(encode(routing.lease(body, None)), GrantedLease)
    assert (on_cpu.machine, on_cpu.gpus, on_cpu.ram_gb) == ("cpu", [], 6.25)
    assert on_cpu.reclaimable_gb is msgspec.UNSET
    body = {"model": QWEN, "cold": True, "min_free_vram_gb": 23}
    evicting = as_declared(encode(routing.lease(body, None)), GrantedLease)
    assert (evicting.ram_gb, evicting.reclaimable_gb) == (msgspec.UNSET, 19.0)


def test_whoever_is_told_that_no_machine_is_fit_gets_the_rejections_as_values(routing: Routing) -> None:
    with pytest.raises(NoMachineError) as caught:
        routing.lease({"model": "llama3.1:70"}, None)
    assert caught.value.did_you_mean == (LLAMA,)
    assert {one.code for one in caught.value.rejected} >= {RejectionCode.OFFLINE}
