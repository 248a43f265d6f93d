"""Leases of several servers: what one knows of the others', and what is decided where they are granted."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg
import pytest

from machines_server.core.routing.answer import Candidate
from machines_server.errors import LockedError, NoMachineError, TooManyError
from machines_server.store.lease_limits import MAX_LEASES, MAX_LEASES_PER_HOLDER
from machines_server.store.postgres.background import Background
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.leases import PostgresLeases
from machines_server.store.postgres.listener import Listener
from machines_server.store.values import LeaseRequest, LeaseSnapshot
from tests.core.routing.fleets import a_fleet, a_live, a_model
from tests.fakes import wait_until
from tests.ports import free_port
from tests.postgres import Postgres, succeeds
from tests.store.booking import WARM, First, reserve

TWO = a_fleet(*(a_live(name, [10], [a_model()], hostname=f"{name}.test") for name in ("one", "two")))
_MULTIPLY = """
INSERT INTO lease SELECT (jsonb_populate_record(lease, jsonb_build_object('id', 'copy' || n))).*
FROM lease, generate_series(2, %s) AS n"""


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def leases_at(
    url: str,
    opened: ExitStack,
    notes: list[tuple[str, int]] | None = None,
    *,
    site: str = "here",
    hears: bool = True,
) -> PostgresLeases:
    """The leases as another server has them, which may hear no announcements."""
    database = opened.enter_context(closing(Database(url)))
    deaf = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    listener = opened.enter_context(closing(Listener(database if hears else deaf)))
    background = opened.enter_context(closing(Background(database)))

    def note(what: str, number: int) -> None:
        if notes is not None:
            notes.append((what, number))

    return PostgresLeases(database, site, listener, background, note)


@pytest.mark.parametrize("hears", [True, False])
def test_what_one_server_grants_the_others_know_soon(url: str, opened: ExitStack, hears: bool) -> None:
    one, other = leases_at(url, opened), leases_at(url, opened, hears=hears)
    assert [*other.read().leases] == []
    lease = reserve(one)
    wait_until(lambda: [known.id for known in other.read().leases] == [lease.id])
    one.release(WARM, lease.id)
    wait_until(lambda: [*other.read().leases] == [])


def test_a_server_that_knows_less_is_corrected_where_it_grants(url: str, opened: ExitStack) -> None:
    one, other = leases_at(url, opened), leases_at(url, opened, hears=False)
    assert not other.read().leases
    assert reserve(one, TWO).machine == "one"
    # Who knows of no lease would take it, too; but now the second has fewer.
    assert reserve(other, TWO).machine == "two"


def test_who_knows_of_no_fit_machine_looks_once_more(url: str, opened: ExitStack) -> None:
    one, other = leases_at(url, opened), leases_at(url, opened, hears=False)
    lease = reserve(one, min_free_vram_gb=8)
    assert other.read().leases
    with pytest.raises(NoMachineError):
        reserve(other, min_free_vram_gb=8)
    one.release(WARM, lease.id)
    assert reserve(other, min_free_vram_gb=8).machine == "one"


def test_why_leases_cannot_be_read_is_told_until_they_can(url: str, opened: ExitStack) -> None:
    leases = leases_at(url, opened)
    reserve(leases)
    with psycopg.connect(url) as holding:
        holding.execute("LOCK TABLE lease")
        with pytest.raises(LockedError):
            leases.newest()
        assert "waited too long" in str(leases.fault())
    wait_until(lambda: succeeds(leases.newest))
    assert leases.fault() is None


def test_a_lease_that_another_server_has_renewed_is_still_held_where_it_seems_to_have_ended(
    url: str, opened: ExitStack
) -> None:
    one, other = leases_at(url, opened), leases_at(url, opened, hears=False)
    lease = reserve(one, min_free_vram_gb=8, ttl_s=3)
    assert other.read().leases
    one.renew(WARM, lease.id, 60, lambda _: None)
    wait_until(lambda: not other.read().leases or other.read().leases[0].ends_in_s > 5)
    with pytest.raises(NoMachineError):
        reserve(other, min_free_vram_gb=8)


def test_one_key_is_one_lease_also_if_two_servers_get_it_at_once(url: str, opened: ExitStack) -> None:
    servers = [leases_at(url, opened) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for number in range(10):
            granted = threads.map(
                lambda one, key: reserve(one, TWO, key=key).id, servers, [f"key {number}"] * 4
            )
            assert len(set(granted)) == 1
    wait_until(lambda: len(servers[0].read().leases) == 10)


def test_each_site_has_its_own_leases_and_keys(url: str, opened: ExitStack) -> None:
    here, there = leases_at(url, opened), leases_at(url, opened, site="there")
    lease = reserve(here, key="k", min_free_vram_gb=8)
    assert reserve(there, key="k", min_free_vram_gb=8).id != lease.id
    assert [one.id for one in here.read().leases] == [lease.id]


def test_what_expires_is_counted_by_one_server(url: str, opened: ExitStack) -> None:
    notes: list[tuple[str, int]] = []
    servers = [leases_at(url, opened, notes) for _ in range(3)]
    for _ in range(5):
        reserve(servers[0], ttl_s=0.2)
    wait_until(lambda: not servers[0].read().leases)

    def expired() -> int:
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(PostgresLeases.expire, servers, [WARM] * 3))
        return sum(number for what, number in notes if what == "expired")

    wait_until(lambda: expired() == 5)
    time.sleep(1.2)  # until each may sweep again
    assert expired() == 5
    assert servers[2].expired() == 5
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT FROM lease_part").rowcount == 0
        assert connection.execute("SELECT FROM lease WHERE gone_at_ms IS NULL").rowcount == 0


def test_a_holder_and_all_together_can_have_so_many(url: str, opened: ExitStack) -> None:
    leases = leases_at(url, opened)
    reserve(leases)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_MULTIPLY, [MAX_LEASES_PER_HOLDER - 1])
        last = reserve(leases_at(url, opened))
        late = leases_at(url, opened)
        with pytest.raises(TooManyError, match=f"'me' has {MAX_LEASES_PER_HOLDER} leases") as refused:
            reserve(late)
        assert 0 < refused.value.retry_after_s <= 60
        reserve(late, holder="you")
        late.release(WARM, last.id)
        reserve(late)
        connection.execute("UPDATE lease SET holder = id")
        connection.execute(
            "INSERT INTO lease SELECT (jsonb_populate_record(lease, jsonb_build_object('id', 'more' || n))).*"
            " FROM lease, generate_series(1, %s) AS n WHERE id = 'copy2'",
            [MAX_LEASES - MAX_LEASES_PER_HOLDER],
        )
        with pytest.raises(TooManyError, match="All agents have"):
            reserve(leases_at(url, opened))


def test_of_what_threads_want_at_once_no_more_is_granted_than_there_is(url: str, opened: ExitStack) -> None:
    leases = leases_at(url, opened)

    def granted(number: int) -> bool:
        try:
            reserve(leases, min_free_vram_gb=4, holder=str(number))
        except NoMachineError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(granted, range(8))) == 2
    assert len(leases.read().leases) == 2


def test_a_failing_choice_of_one_thread_fails_no_other(url: str, opened: ExitStack) -> None:
    class Failing(First):
        def again(self, candidate: Candidate, _: LeaseSnapshot) -> Candidate | None:
            raise LookupError(candidate.state.machine.name)

    leases = leases_at(url, opened)

    def failing(_: int) -> bool:
        with pytest.raises(LookupError):
            leases.reserve(WARM, LeaseRequest("you", 60), Failing(WARM))
        return True

    with ThreadPoolExecutor(8) as threads:
        failed, granted = threads.map(failing, range(20)), threads.map(lambda _: reserve(leases), range(20))
        assert len({lease.id for lease in granted}) == 20
        assert all(failed)
    assert {lease.holder for lease in leases.read().leases} == {"me"}


def test_a_host_that_another_server_has_locked_keeps_nobody_from_others(url: str, opened: ExitStack) -> None:
    leases = leases_at(url, opened)
    fleets = [a_fleet(a_live(name, [10], [a_model()], hostname=f"{name}.test")) for name in ("one", "two")]
    for fleet in fleets:
        reserve(leases, fleet)
    with psycopg.connect(url) as other, ThreadPoolExecutor(8) as threads:
        other.execute("SELECT FROM lease_lock WHERE part = 'machine one' FOR UPDATE")
        locked = [threads.submit(reserve, leases, fleets[0]) for _ in range(2)]
        free = [threads.submit(reserve, leases, fleets[1]) for _ in range(6)]
        assert {lease.result(60).machine for lease in free} == {"two"}
        other.rollback()
        wait_until(lambda: all(lease.done() for lease in locked))
