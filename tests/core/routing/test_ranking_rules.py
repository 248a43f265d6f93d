"""The stated rule of the warm choice, as properties."""

from hypothesis import given
from hypothesis import strategies as st

from machines_server.contract.units import gib
from machines_server.core.routing.answer import RejectionCode
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.core.sample import (
    GIB,
    LoadedModel,
)
from machines_server.core.status import Status
from tests.core.routing.fleets import LLAMA, a_fleet, a_lease, a_live, a_model, ask, codes, names, on_cpu

GB = st.sampled_from([0, 0.01, 0.5, 2, 5.8, 23.5])


MODELS = st.sampled_from(
    [(), (a_model(),), (a_model(on_gpu=0.5),), (a_model(expires_s=5),), (a_model("phi3:mini"),)]
)


@st.composite
def fleets(draw: st.DrawFn, models: st.SearchStrategy[tuple[LoadedModel, ...]] = MODELS) -> Fleet:
    lives = []
    for number in range(draw(st.integers(0, 6))):
        free = draw(st.lists(GB, max_size=2))
        held = draw(models)
        if not free and held and held[0].model == LLAMA:
            held = (on_cpu(),)
        status = draw(st.sampled_from([Status.ONLINE, Status.ONLINE, Status.ONLINE, Status.OFFLINE]))
        lives.append(a_live(f"m{number}", free, held, status=status, reason=None))
    return a_fleet(*lives)


@st.composite
def leased(draw: st.DrawFn) -> tuple[Fleet, tuple[Lease, ...]]:
    fleet = draw(fleets())
    holders = st.sampled_from([f"m{number}" for number in range(6)])
    return fleet, tuple(
        a_lease(name, {f"{name}-0": gb}, ends_in_s=second)
        for second, (name, gb) in enumerate(draw(st.lists(st.tuples(holders, GB), max_size=4)), 1)
    )


@given(leased(), GB)
def test_the_choice_is_the_best_by_the_stated_rule(
    world: tuple[Fleet, tuple[Lease, ...]], min_free: float
) -> None:
    fleet, leases = world
    ranking = ask(fleet, *leases, min_free_vram_gb=min_free)
    expected = []
    for live in fleet.states:
        name, host = live.machine.name, live.host
        if live.verdict.status is not Status.ONLINE or not live.models or live.models[0].model != LLAMA:
            continue
        assert host is not None
        here = [lease for lease in leases if lease.machine == name]
        taken = {gpu.uuid: 0 for gpu in host.gpu}
        for lease in here:
            for share in lease.shares:
                taken[share.of] = taken.get(share.of, 0) + share.size_bytes
        free = max((round(max(g.vram_free_bytes - taken[g.uuid], 0) / GIB, 2) for g in host.gpu), default=0)
        model = live.models[0]
        is_half = (bool(host.gpu) and model.processor != "100% GPU") or model.expires_at is not None
        if free >= min_free:
            expected.append((is_half, free == 0, len(here), -free, name))
    assert names(ranking) == [name for *_, name in sorted(expected)]


@given(leased(), GB, st.data())
def test_without_one_candidate_the_others_keep_their_order(
    world: tuple[Fleet, tuple[Lease, ...]], min_free: float, data: st.DataObject
) -> None:
    fleet, leases = world
    before = names(ask(fleet, *leases, min_free_vram_gb=min_free))
    if before:
        gone = data.draw(st.sampled_from(before))
        rest = a_fleet(*(live for live in fleet.states if live.machine.name != gone))
        assert names(ask(rest, *leases, min_free_vram_gb=min_free)) == [one for one in before if one != gone]


@given(leased(), GB, st.booleans())
def test_every_machine_is_a_candidate_or_rejected_with_a_code_and_a_sentence(
    world: tuple[Fleet, tuple[Lease, ...]],
    min_free: float,
    cold: bool,
) -> None:
    fleet, leases = world
    ranking = ask(fleet, *leases, min_free_vram_gb=min_free, cold=cold)
    told = names(ranking) + list(codes(ranking))
    assert sorted(told) == sorted(live.machine.name for live in fleet.states)
    assert set(codes(ranking).values()) <= set(RejectionCode)
    assert all(one.reason for one in ranking.rejected if one.code != "offline")


@given(fleets(st.sampled_from([(), (a_model(),)])), GB)
def test_without_leases_and_constraints_it_is_the_router_of_the_guide(fleet: Fleet, min_free: float) -> None:
    found = []
    for live in fleet.states:
        assert live.host is not None
        if live.verdict.status != "online" or LLAMA not in [model.model for model in live.models]:
            continue
        free = max((gib(gpu.vram_free_bytes) for gpu in live.host.gpu), default=0.0)
        if free >= min_free:
            found.append((-free, live.machine.name))
    assert names(ask(fleet, min_free_vram_gb=min_free)) == [name for _, name in sorted(found)]
