"""A lease that no longer holds: who learns of it, when, and how."""

import logging
import subprocess
import sys
import threading
import time
import warnings

import pytest

from machines_client import Client, Lease, LeaseLost
from tests.client.scripted_server import LEASE, Say, ScriptedServer
from tests.client.two import LLAMA, Two
from tests.fakes import wait_until
from tests.running import clean_environment

LOST = Say({"error": "unknown_lease", "message": "The lease abc expired."}, 404)


def test_asking_tells_at_once_that_a_lease_is_lost(two: Two) -> None:
    told: list[LeaseLost] = []
    lease = two.client.lease(LLAMA, ttl_s=600, on_lost=told.append)
    lease.check(ask=True)
    two.client.release(lease.id)
    lease.check()  # nobody has asked yet
    assert lease.lost is None
    with pytest.raises(LeaseLost, match="expired or was released"):
        lease.check(ask=True)
    with pytest.raises(LeaseLost):
        lease.check()
    assert [str(one) for one in told] == [str(lease.lost)]
    lease.release()
    assert len(told) == 1


def test_asking_renews_the_lease(two: Two) -> None:
    with two.client.lease(LLAMA, ttl_s=600) as lease:
        before = lease.expires_at
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 0.01)  # expires_at has milliseconds
        lease.check(ask=True)
        assert lease.expires_at > before


def test_the_callback_is_told_in_the_background_and_once(two: Two) -> None:
    told: list[LeaseLost] = []
    lease = two.client.lease(LLAMA, ttl_s=1, on_lost=told.append)
    two.client.release(lease.id)
    wait_until(lambda: told)
    with pytest.raises(LeaseLost):
        lease.check(ask=True)
    lease.release()
    assert told == [lease.lost]


def test_a_block_that_outlived_its_lease_raises(two: Two) -> None:
    with pytest.raises(LeaseLost, match="expired or was released"), two.client.lease(LLAMA) as lease:
        two.client.release(lease.id)


def test_a_block_may_say_that_it_does_not_matter(two: Two) -> None:
    with two.client.lease(LLAMA, raise_if_lost=False) as lease:
        two.client.release(lease.id)
    assert lease.lost is not None


def test_the_error_of_a_block_goes_first_and_the_loss_is_noted_on_it(two: Two) -> None:
    lease = two.client.lease(LLAMA)
    two.client.release(lease.id)
    with pytest.raises(ZeroDivisionError) as caught, lease:
        raise ZeroDivisionError
    assert caught.value.__notes__ == [str(lease.lost)]


def test_a_release_is_no_loss(two: Two) -> None:
    told: list[LeaseLost] = []
    with two.client.lease(LLAMA, ttl_s=1, on_lost=told.append) as lease:
        lease.release()
    assert (lease.lost, told) == (None, [])
    assert "released" in repr(lease)


def test_a_released_lease_does_not_hold_any_more(two: Two) -> None:
    lease = two.client.lease(LLAMA)
    lease.release()
    for ask in (False, True):
        with pytest.raises(LeaseLost, match="the lease on more was released here"):
            lease.check(ask=ask)
    assert lease.lost is None


def test_a_client_releases_a_lease_by_itself_and_it_is_no_loss(two: Two) -> None:
    with two.client.lease(LLAMA) as lease:
        assert two.client.held_lease(lease).lease == two.client.renew(lease, ttl_s=90).lease == lease.id
        assert two.client.release(lease).machine == "more"
    assert (lease.lost, two.client.leases().total) == (None, 0)
    reserved = two.client.reserve(LLAMA)
    assert two.client.release(reserved).lease == reserved.lease


def is_renewed(name: str) -> bool:
    return f"lease {name}" in [thread.name for thread in threading.enumerate()]


def test_a_lease_that_is_dropped_is_not_renewed_any_more(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({**LEASE, "ttl_s": 3}, 201), Say(LEASE)]
    held = [Client(scripted.url).lease("m", connect_timeout_s=None)]
    wait_until(lambda: len(scripted.asked) > 1)
    assert is_renewed("abc")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        held.clear()
        wait_until(lambda: caught and not is_renewed("abc"))
    (warned,) = caught
    assert issubclass(warned.category, ResourceWarning)
    assert "the lease abc on box was dropped without release()" in str(warned.message)
    assert {asked.method for asked in scripted.asked} == {"POST"}


ENDS = f"""
from machines_client import Client
leases = [Client().lease("{LLAMA}") for _ in range(3)]
print(Client().leases().total)
"""
FORKS = f"""
import os, sys
from machines_client import Client
lease = Client().lease("{LLAMA}")
if not (child := os.fork()):
    sys.exit()
os.waitpid(child, 0)
print(Client().leases().total)
"""

BLOCKS = """
import os
import signal
from machines_client import Client

with Client().lease("llama3.1:70b"):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
        print(signal.sigwait({number}).name)
"""


def run(program: str, url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program],
        env=clean_environment(MACHINES_URL=url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_program_that_ends_releases_its_leases(two: Two) -> None:
    assert run(ENDS, two.server.url) == "3\n"
    assert two.client.leases().total == 0


def test_a_child_of_a_program_does_not_release_its_leases(two: Two) -> None:
    assert run(FORKS, two.server.url) == "1\n"
    assert two.client.leases().total == 0


def test_a_signal_that_a_program_blocks_does_not_reach_the_thread_that_renews(two: Two) -> None:
    assert run(BLOCKS, two.server.url) == "SIGINT\nSIGTERM\n"


def test_a_lease_whose_time_is_over_is_lost_even_if_nothing_could_renew_it(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({**LEASE, "ttl_s": 0.05}, 201), Say({}, 500)]
    lease = Client(scripted.url).lease("m", connect_timeout_s=None)
    wait_until(lambda: lease.lost)
    with pytest.raises(LeaseLost, match="renewed in time"):
        lease.check()
    lease.release()


def test_a_callback_that_fails_is_logged(scripted: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    def fail(lost: LeaseLost) -> None:
        raise ZeroDivisionError(str(lost))

    scripted.replies = [Say(LEASE, 201), LOST]
    lease = Client(scripted.url).lease("m", connect_timeout_s=None, on_lost=fail, ttl_s=60)
    with caplog.at_level(logging.ERROR), pytest.raises(LeaseLost):
        lease.check(ask=True)
    assert "the callback for the lost lease abc failed" in caplog.text
    lease.release()


def test_a_long_lease_is_renewed_so_often_that_a_loss_is_known_soon(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({**LEASE, "ttl_s": 0.6}, 201), Say(LEASE)]
    lease = Client(scripted.url).lease("m", connect_timeout_s=None)
    wait_until(lambda: len(scripted.asked) > 3)
    assert {asked.path for asked in scripted.asked[1:]} == {"/api/leases/abc/renew"}
    lease.release()


def test_a_lease_says_what_it_promises(two: Two) -> None:
    with two.client.lease(LLAMA, min_free_vram_gb=4, exclusive=True, holder="me") as lease:
        assert [(gpu.uuid, gpu.vram_gb) for gpu in lease.gpus] == [("GPU-0", 4.0)]
        assert (lease.exclusive, lease.holder, lease.ttl_s, lease.load_s) == (True, "me", 60, None)
        assert repr(lease) == (
            f"<Lease {lease.id} of {LLAMA} on more at {two.more.url('')}, until {lease.expires_at}>"
        )
        held = two.client.leases().leases[0]
        assert (held.lease, held.exclusive, held.gpus) == (lease.id, True, lease.gpus)


def test_a_function_takes_a_lease_for_each_call(two: Two) -> None:
    @two.client.leased(LLAMA, ttl_s=5)
    def where(lease: Lease, text: str, *, times: int = 1) -> str:
        """Its own words."""
        assert two.client.leases().leases[0].lease == lease.id
        return text * times

    assert (where("a", times=3), where.__doc__) == ("aaa", "Its own words.")
    assert two.client.leases().total == 0
