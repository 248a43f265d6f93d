"""Leases: what ends and what keeps them, what is learned from them; only one is decided at a time."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import pytest

from machines_server.core.model_names import model_key
from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease, Warmth
from machines_server.core.routing.loading import LATEST_LOADS, LoadTime
from machines_server.core.sample import State
from machines_server.errors import ConflictError, NoMachineError, StoreError, UnknownLeaseError
from machines_server.store.api import Leases
from machines_server.store.lease_limits import MAX_SNAPSHOT_AGE_S
from machines_server.store.values import LeaseRequest, LeaseSnapshot
from tests.core.routing.fleets import LLAMA, a_fleet, a_live, a_model
from tests.fakes import wait_until
from tests.store.booking import WARM, First, reserve
from tests.store.contract.stores import Stores

COLD = a_fleet(a_live("one", [24], declares=[LLAMA]))


def test_a_store_without_leases_has_none(leases: Leases) -> None:
    assert leases.read() == LeaseSnapshot()
    assert leases.expired() == 0


def test_a_lease_is_read_by_every_process_as_it_was_made(leases: Leases, other_leases: Leases) -> None:
    lease = reserve(leases, min_free_vram_gb=4)
    (read,) = other_leases.read().leases
    assert (read.id, read.machine, read.model, read.holder, read.shares) == (
        lease.id, "one", LLAMA, "me", lease.shares,
    )  # fmt: skip
    assert 45 < read.ends_in_s <= 60
    assert read.ends_at == lease.ends_at
    assert abs(read.ends_at - time.time() - 60) < 15


def test_the_newest_leases_are_those_of_all_processes(leases: Leases, other_leases: Leases) -> None:
    assert other_leases.newest().leases == ()
    ids = []
    for _ in range(10):
        ids.append(reserve(leases).id)
        assert [one.id for one in other_leases.newest().leases] == ids
    while ids:
        leases.release(WARM, ids.pop())
        assert [one.id for one in other_leases.newest().leases] == ids


def test_the_id_of_a_lease_is_no_option_of_a_command(leases: Leases) -> None:
    ids = {reserve(leases).id for _ in range(100)}
    assert len(ids) == 100
    assert all(one.isalnum() for one in ids)


def test_a_lease_ends_without_anybody_ending_it(leases: Leases) -> None:
    lease = reserve(leases, ttl_s=0.2)
    wait_until(lambda: not leases.read().leases)
    wait_until(leases.expired)  # by the clock of the database, which a reader may be a moment ahead of
    with pytest.raises(UnknownLeaseError, match="expired"):
        leases.renew(WARM, lease.id, None, lambda _: None)
    with pytest.raises(UnknownLeaseError):
        leases.release(WARM, lease.id)


def test_leases_that_ran_out_are_counted_and_released_ones_are_not(leases: Leases) -> None:
    for _ in range(3):
        reserve(leases, ttl_s=0.2)
    leases.release(WARM, reserve(leases).id)
    wait_until(lambda: not leases.newest().leases)
    assert leases.expired() == 3
    reserve(leases)
    assert leases.expired() == 3


def test_a_lease_begins_anew_when_it_is_renewed_and_keeps_its_time_unless_it_is_given_another(
    leases: Leases,
) -> None:
    lease = reserve(leases, ttl_s=5)
    assert leases.renew(WARM, lease.id, 60, lambda _: None).ends_in_s > 45
    assert leases.renew(WARM, lease.id, None, lambda _: None).ttl_s == 60


def test_a_lease_whose_renewal_is_refused_stays_as_it_was(leases: Leases) -> None:
    lease = reserve(leases, ttl_s=5)

    def refuse(_: Lease) -> None:
        raise ConflictError("lease_broken", "no")

    with pytest.raises(ConflictError):
        leases.renew(WARM, lease.id, 60, refuse)
    assert leases.read().leases[0].ttl_s == 5


def test_when_nothing_is_chosen_nothing_is_granted(leases: Leases) -> None:
    class Nobody(First):
        def candidates(self, known: LeaseSnapshot) -> Sequence[Candidate]:
            raise LookupError(known)

    with pytest.raises(LookupError):
        leases.reserve(WARM, LeaseRequest("me", 60), Nobody(WARM))
    assert list(leases.read().leases) == []
    reserve(leases)


def test_a_repeated_key_is_the_same_lease_while_it_holds(leases: Leases, other_leases: Leases) -> None:
    lease = reserve(leases, key="k")
    assert reserve(other_leases, key="k").id == lease.id
    with pytest.raises(ConflictError, match="Idempotency-Key") as refused:
        reserve(leases, key="k", text="another request")
    assert refused.value.code == "idempotency_conflict"
    leases.release(WARM, lease.id)
    assert reserve(leases, key="k").id != lease.id


def test_a_snapshot_has_another_version_when_it_has_another_content(
    leases: Leases, other_leases: Leases
) -> None:
    lease = reserve(leases, ttl_s=600)
    changes: list[Callable[[], Lease]] = [
        lambda: reserve(other_leases),
        lambda: other_leases.renew(WARM, lease.id, 900, lambda _: None),
        lambda: other_leases.release(WARM, lease.id),
        lambda: leases.release(WARM, leases.read().leases[0].id),
    ]
    contents: dict[int, Sequence[tuple[str, float]]] = {}

    def content() -> Sequence[tuple[str, float]]:
        known = leases.read()
        found = sorted((one.id, one.ttl_s) for one in known.leases)
        assert contents.setdefault(known.version, found) == found
        return found

    sizes = [len(content())]
    for change in changes:
        before = content()
        change()
        wait_until(lambda before=before: content() != before)  # type: ignore[misc]  # mypy sees no default
        sizes.append(len(content()))
    assert sizes == [1, 2, 2, 1, 0]


def test_what_is_read_at_once_is_what_is_read_as_soon_as_that_does_not_block(
    leases: Leases, other_leases: Leases
) -> None:
    ids = list[str]()
    for of in (leases, other_leases, leases):
        ids.append(reserve(of).id)
        wait_until(
            lambda: [one.id for one in leases.read().leases] == ids and leases.read_at_once() is not None
        )
        at_once = leases.read_at_once()
        assert at_once is None or [one.id for one in at_once.leases] == ids
    time.sleep(MAX_SNAPSHOT_AGE_S)
    assert leases.read_at_once() is None  # they have less time left than was read
    leases.close()


def test_while_nobody_writes_a_lease_has_less_and_less_time_left(leases: Leases) -> None:
    reserve(leases)
    before = leases.read().leases[0]
    wait_until(lambda: leases.read().leases[0].ends_in_s < before.ends_in_s)
    assert leases.read().leases[0].ends_at == before.ends_at


class Noting(First):
    """Notes how many leases were known when it was last asked."""

    seen = 0

    def candidates(self, known: LeaseSnapshot) -> Sequence[Candidate]:
        self.seen = len(known.leases)
        return super().candidates(known)

    def again(self, candidate: Candidate, on_host: LeaseSnapshot) -> Candidate | None:
        self.seen = len(on_host.leases)
        return super().again(candidate, on_host)


def test_each_choice_sees_all_that_were_made_before_it(leases: Leases, other_leases: Leases) -> None:
    reserve(leases)

    def take(of: Leases) -> int:
        chooser = Noting(WARM)
        of.reserve(WARM, LeaseRequest("me", 60), chooser)
        return chooser.seen

    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(take, [one for one, _ in zip(cycle([leases, other_leases]), range(40))]))
    assert sorted(seen) == list(range(1, 41))
    wait_until(lambda: len(leases.read().leases) == len(other_leases.read().leases) == 41)


def test_what_one_thread_is_refused_another_gets_at_the_same_moment(leases: Leases) -> None:
    held_before = [reserve(leases) for _ in range(20)]

    def refuse(_: Lease) -> None:
        raise ConflictError("lease_broken", "no")

    def work(number: int) -> str:
        lease = held_before[number // 4].id
        try:
            if number % 4 == 0:
                return reserve(leases, holder="another").holder
            if number % 4 == 1:
                return reserve(leases, min_free_vram_gb=1000).id
            if number % 4 == 2:
                return leases.renew(WARM, lease, 600, refuse).id
            return leases.release(WARM, f"no {lease}").id
        except (NoMachineError, ConflictError, UnknownLeaseError) as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(work, range(80)))
    assert outcomes == ["another", "NoMachineError", "ConflictError", "UnknownLeaseError"] * 20
    held = leases.newest().leases
    assert sorted(one.holder for one in held) == ["another"] * 20 + ["me"] * 20
    assert {one.ttl_s for one in held} == {60}


def test_an_unavailable_store_is_an_error_until_it_is_there_again(leases: Leases, stores: Stores) -> None:
    lease = reserve(leases)
    stores.break_off()
    wait_until(lambda: not can_be_read(leases))
    for call in (
        leases.read,
        leases.expired,
        lambda: reserve(leases),
        lambda: leases.renew(WARM, lease.id, None, lambda _: None),
        lambda: leases.release(WARM, lease.id),
    ):
        with pytest.raises(StoreError):
            call()
    stores.mend()
    wait_until(lambda: can_be_read(leases))
    assert [one.id for one in leases.read().leases] == [lease.id]


def can_be_read(leases: Leases) -> bool:
    try:
        leases.read()
    except StoreError:
        return False
    return True


def test_what_is_closed_is_opened_by_the_next_call(leases: Leases) -> None:
    lease = reserve(leases)
    leases.close()
    leases.close()
    assert [one.id for one in leases.read().leases] == [lease.id]


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
    wait_until(
        lambda: reserve(leases, key="k").id != expired.id
    )  # its time is up for who reads a little earlier
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
