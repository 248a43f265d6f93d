"""Who polls: one process at a time, and another as soon as that one is dead; and requests to it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from machines_server.core.model_names import model_key
from machines_server.store.api import LeaderElection, PollerRequests, PollerWatch
from machines_server.store.values import Requested
from tests.fakes import wait_until
from tests.store.contract.stores import Stores


@contextmanager
def leading(stores: Stores, folder: Path | None = None) -> Iterator[LeaderElection]:
    election = stores.election(folder)
    assert election.acquire()
    yield election
    election.release()


def lead_until_killed(stores: Stores, told: Connection) -> None:
    election = stores.election()
    told.send(election.acquire())
    told.recv()


@contextmanager
def another_process(stores: Stores) -> Iterator[tuple[int, bool]]:
    """The pid of one that tries to lead, and whether it does; it is killed in the end."""
    ours, its = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=lead_until_killed, args=[stores, its])
    process.start()
    try:
        assert ours.poll(60)
        yield process.pid or 0, ours.recv()
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
        its.close()


def faults(watch: PollerWatch) -> dict[str, str]:
    leader = watch.leader()
    assert leader is not None
    return dict(leader.faults)


def test_at_first_nobody_polls_and_nothing_keeps_anybody_from_it(stores: Stores) -> None:
    assert stores.election().leader() is None
    assert stores.election().obstacle() is None


def test_who_polls_is_known_and_since_when(stores: Stores) -> None:
    before = time.time()
    with leading(stores):
        leader = stores.election().leader()
        assert leader is not None
        assert (leader.pid, leader.faults) == (os.getpid(), {})
        assert before <= leader.since <= time.time()
        assert stores.election().obstacle() is None
        assert stores.election().write_fault() is None
    assert stores.election().leader() is None


def test_a_second_one_has_to_wait_in_this_process_and_in_another(stores: Stores) -> None:
    second = stores.election()
    with leading(stores) as election:
        assert election.is_leader()
        assert not second.acquire()
        assert not second.is_leader()
        with another_process(stores) as (_, leads):
            assert not leads
        assert second.leader() is not None
    assert not election.is_leader()
    assert second.acquire()
    second.release()


def test_another_leads_once_the_process_that_led_is_killed(stores: Stores) -> None:
    ours = stores.election()
    with another_process(stores) as (pid, leads):
        assert leads
        leader = ours.leader()
        assert leader is not None
        assert leader.pid == pid
        assert ours.obstacle() is None
        assert not ours.acquire()
    wait_until(ours.acquire)
    ours.release()


def test_faults_are_told_while_they_last(stores: Stores) -> None:
    watch = stores.election()
    with leading(stores) as election:
        election.report_faults({"store": "the disk is full", "poll": "no more file descriptors"})
        assert faults(watch) == {"store": "the disk is full", "poll": "no more file descriptors"}
        election.report_faults({"poll": "x"})
        assert faults(watch) == {"poll": "x"}
        election.report_faults({})
        assert faults(watch) == {}
        election.report_faults({"poll": "x"})
    with leading(stores):
        assert faults(watch) == {}


@pytest.mark.parametrize("letter", ["x", "é", "€", "\U0001f525", "\0", '"', "\ud800"])
def test_a_long_fault_is_cut_and_never_makes_the_leader_unknown(stores: Stores, letter: str) -> None:
    with leading(stores) as election:
        election.report_faults({"poll": letter * 100_000, "store": letter * 100_000})
        leader = stores.election().leader()
        assert leader is not None
        assert leader.pid == os.getpid()
        assert {part: set(fault) for part, fault in leader.faults.items()} == {
            "poll": {letter},
            "store": {letter},
        }
        assert all(100 <= len(fault) < 1000 for fault in leader.faults.values())


def test_who_does_not_lead_tells_nothing(stores: Stores) -> None:
    with leading(stores):
        stores.election().report_faults({"poll": "not mine"})
        assert faults(stores.election()) == {}
    stores.election().report_faults({"poll": "not mine"})
    assert stores.election().leader() is None


def test_it_is_known_whose_machines_are_polled(stores: Stores, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with leading(stores, theirs):
        leader = stores.election().leader()
        assert leader is not None
        assert leader.folder == str(theirs)
        assert stores.election(ours).other_folder() == str(theirs)
        assert stores.election(theirs).other_folder() is None
    assert stores.election(ours).other_folder() is None


def test_who_polls_is_known_while_the_store_cannot_be_used(stores: Stores) -> None:
    with leading(stores) as election:
        stores.break_off()
        election.report_faults({"store": "gone"})
        assert faults(stores.election()) == {"store": "gone"}
        stores.mend()


def taken(poller: PollerRequests, models: int, machines: int) -> Requested:
    """What a poller has taken when it was that much; it may be told a moment later."""
    found = [Requested()]

    def is_all() -> bool:
        if not poller.is_empty():
            more = poller.take()
            found[0] = Requested(found[0].models | more.models, (*found[0].machines, *more.machines))
        return (len(found[0].models), len(found[0].machines)) == (models, machines)

    wait_until(is_all)
    return found[0]


def test_what_is_asked_of_the_poller_is_taken_once_whoever_asks(stores: Stores) -> None:
    requests, poller = stores.requests(), stores.requests()
    assert poller.is_empty()
    assert poller.take() == Requested()
    requests.look_for("Mine")
    requests.look_for("mine:latest")
    other = stores.requests()
    other.look_for("library/mine")
    other.look_for("hf.co/a/b:Q4")  # once this has come, so has the one before
    requests.poll_soon(["one", "two"])
    models = frozenset({model_key("mine"), "hf.co/a/b:q4"})
    assert taken(poller, 2, 2) == Requested(models, ("one", "two"))
    assert poller.is_empty()
    requests.look_for("mine")  # what was taken is asked anew
    stores.requests().poll_soon(["one"])
    assert taken(poller, 1, 1) == Requested(frozenset({model_key("mine")}), ("one",))
    assert poller.is_empty()


@pytest.mark.parametrize("name", ["a/b/c/d", "m:", "two\nlines", "m" * 800, "\udcff", ""])
def test_a_name_that_no_model_can_have_is_not_looked_for(stores: Stores, name: str) -> None:
    stores.requests().look_for(name)
    assert stores.requests().is_empty()
