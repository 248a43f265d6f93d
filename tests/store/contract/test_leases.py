"""Leases: what ends and what keeps them; only one is decided at a time."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import pytest

from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.leases import Lease
from machines_server.errors import ConflictError, NoMachineError, StoreError, UnknownLeaseError
from machines_server.store.api import Leases
from machines_server.store.lease_limits import MAX_SNAPSHOT_AGE_S
from machines_server.store.values import LeaseRequest, LeaseSnapshot
from tests.core.routing.fleets import LLAMA
from tests.fakes import wait_until
from tests.store.booking import WARM, First, reserve
from tests.store.contract.stores import Stores


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
    wait_until(leases.expired)  # by the database's clock: for a reader, leases end a moment earlier
    with pytest.raises(UnknownLeaseError, match="expired"):
        leases.renew(WARM, lease.id, None, lambda _: None)
    with pytest.raises(UnknownLeaseError):
        leases.release(WARM, lease.id)


def test_leases_that_ran_out_are_counted_and_released_ones_are_not(leases: Leases) -> None:
    for _ in range(3):
        reserve(leases, ttl_s=0.2)
    leases.release(WARM, reserve(leases).id)
    wait_until(lambda: not leases.newest().leases)
    wait_until(lambda: leases.expired() >= 3)  # by the database's clock, as above
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
            lambda: [one.id for one in leases.read().leases] == ids and leases.read_nowait() is not None
        )
        at_once = leases.read_nowait()
        assert at_once is None or [one.id for one in at_once.leases] == ids
    time.sleep(MAX_SNAPSHOT_AGE_S)
    assert leases.read_nowait() is None  # they have less time left than was read
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
