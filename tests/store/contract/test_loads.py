"""What leases on cold machines teach of loading, and what is kept of those that end before it is seen."""

import time

import pytest

from machines_server.core.model_names import model_key
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Warmth
from machines_server.core.routing.loading import LATEST_LOADS, LoadTime
from machines_server.core.sample import State
from machines_server.store.api import Leases
from tests.core.routing.fleets import LLAMA, a_fleet, a_live, a_model
from tests.fakes import wait_until
from tests.store.booking import COLD, WARM, reserve


def appeared(after_s: float, absent_s: float | None = 0.01) -> Fleet:
    """The machine some seconds after a lease was made: it holds the model, and has been sampled since.

    So many seconds after it was made it did not; None: nobody knows.
    """
    live, now = a_live("one", [2], [a_model()], declares=[LLAMA]), time.time()
    absent_at = {} if absent_s is None else {"one": {LLAMA: now + absent_s}}
    return a_fleet(live, held_since={"one": {LLAMA: now + after_s}}, absent_at=absent_at)


@pytest.mark.parametrize("how", ["release", "renew", "another lease"])
def test_how_long_a_load_took_is_learned_from_a_cold_lease(leases: Leases, how: str) -> None:
    lease = reserve(leases, COLD, cold=True)
    assert lease.warmth is Warmth.COLD
    there = appeared(12.5)
    if how == "release":
        leases.release(there, lease.id)
    elif how == "renew":
        leases.renew(there, lease.id, None, lambda _: None)
    else:
        reserve(leases, there)
    ((machine, key, _, load_s),) = leases.read().load_times
    assert (machine, key) == ("one", model_key(LLAMA))
    assert 12 < load_s < 30
    reserve(leases, there)
    assert len(leases.read().load_times) == 1  # one load, one time


@pytest.mark.parametrize("absent_s", [None, -2.0])
def test_a_load_that_was_not_seen_from_its_start_teaches_nothing(
    leases: Leases, absent_s: float | None
) -> None:
    lease = reserve(leases, COLD, cold=True)
    leases.release(appeared(1.5, absent_s), lease.id)
    assert list(leases.read().load_times) == []


def test_a_load_is_learned_even_if_its_lease_has_expired(leases: Leases) -> None:
    reserve(leases, COLD, cold=True, ttl_s=0.1)
    wait_until(lambda: not leases.read().leases)
    reserve(leases, appeared(0.05))
    assert len(leases.read().load_times) == 1


def test_only_the_latest_loads_are_kept(leases: Leases) -> None:
    for number in range(LATEST_LOADS + 3):
        lease = reserve(leases, COLD, cold=True)
        leases.release(appeared(100 + number), lease.id)
    times = [round(one.load_s) - 100 for one in leases.read().load_times]
    assert times == list(range(3, LATEST_LOADS + 3))
    assert isinstance(leases.read().load_times[0], LoadTime)


def test_a_load_that_seems_to_end_before_it_began_teaches_nothing(leases: Leases) -> None:
    lease = reserve(leases, COLD, cold=True)
    leases.release(appeared(-5), lease.id)  # as after the clock was set back
    assert list(leases.read().load_times) == []


def released(leases: Leases) -> list[str]:
    return [lease.id for lease in leases.read().released]


def test_a_lease_that_ends_before_its_model_is_seen_is_kept_as_released(leases: Leases) -> None:
    lease = reserve(leases, COLD, cold=True)
    leases.release(COLD, lease.id)
    assert released(leases) == [lease.id]
    expired = reserve(leases, COLD, cold=True, ttl_s=0.1, key="k")
    wait_until(lambda: not leases.read().leases)
    # By the database's clock it ends a moment later than for a reader.
    wait_until(lambda: reserve(leases, key="k").id != expired.id)
    assert released(leases) == [expired.id]  # of several on one model, the last
    assert leases.expired() == 1


def test_of_many_released_leases_on_one_load_one_of_each_warmth_is_kept(leases: Leases) -> None:
    loading = a_fleet(a_live("one", [24], declares=[LLAMA], ollama=State.BUSY))
    shared = [reserve(leases, fleet, cold=True) for fleet in (COLD, loading, loading, loading)]
    assert [lease.warmth for lease in shared] == [Warmth.COLD, *[Warmth.LOADING] * 3]
    for lease in shared:
        leases.release(loading, lease.id)
    warmths = [lease.warmth for lease in leases.read().released]
    assert sorted(warmths) == [Warmth.COLD, Warmth.LOADING]


def test_nothing_is_kept_of_a_lease_whose_model_has_been_seen(leases: Leases) -> None:
    lease = reserve(leases, COLD, cold=True)
    leases.release(appeared(1), lease.id)
    leases.release(WARM, reserve(leases).id)
    assert released(leases) == []


def test_a_warm_lease_teaches_nothing_of_loading(leases: Leases) -> None:
    lease = reserve(leases)
    leases.release(appeared(5), lease.id)
    assert list(leases.read().load_times) == []
