"""The present: the latest of everything at one moment, and a version that says when to look again."""

import json
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from machines_server.core.machine import Registry
from machines_server.core.sample import (
    Cycle,
    Library,
    LoadedModel,
    ModelSize,
    RuntimeState,
    State,
    StoredModel,
    UnchangedLibrary,
)
from machines_server.core.snapshot import Snapshot
from machines_server.errors import StoreError
from machines_server.store.api import Present
from machines_server.store.values import Update
from tests.core.machines import SIDECAR, answer
from tests.fakes import wait_until
from tests.store.contract.conftest import Write
from tests.store.contract.stores import Stores
from tests.store.polls import (
    HOST,
    LLAMA,
    PHI,
    REGISTRY,
    answered,
    listed,
    machine,
    missed,
    of_one,
    polled,
)

DISK = Library(
    "one", "http://127.0.0.1:1/api/tags", 50.0, (StoredModel("llama3.1:70b", "d1", 40), StoredModel("bare"))
)


def test_a_store_that_nobody_has_written_cannot_be_read(present: Present, write: Write) -> None:
    for call in (present.version, present.snapshot, present.cycle, lambda: present.last_good(None)):
        with pytest.raises(StoreError):
            call()
    assert present.version_nowait() is None
    write()
    assert present.snapshot().latest == {}
    assert present.cycle() is None


def test_the_latest_poll_of_each_endpoint_is_read_as_it_was_written(write: Write, present: Present) -> None:
    write(REGISTRY, answered(10.0), listed(11.0, LLAMA), Cycle(9.5, 11.5, 5, 2))
    snapshot = present.snapshot()
    sidecar, ollama = snapshot.latest["one"]["sidecar"], snapshot.latest["one"]["ollama"]
    assert (sidecar.state, sidecar.polled_at, sidecar.answered_at) == (State.OK, 10.0, 10.0)
    assert ollama.answer == RuntimeState(models=(LLAMA,))
    assert sidecar.answer == RuntimeState(host=HOST)
    assert repr(sidecar.answer) == repr(RuntimeState(host=HOST))  # 61 did not become 61.0
    assert snapshot.cycle == present.cycle() == Cycle(9.5, 11.5, 5, 2)


def test_after_catching_up_the_present_has_all_that_was_written_before(
    write: Write, present: Present
) -> None:
    for at in (10.0, 20.0, 30.0):
        write(REGISTRY, answered(at))
        present.catch_up()
        version = present.version_nowait() or present.version()
        assert present.snapshot().latest["one"]["sidecar"].polled_at == at
        assert present.version() == version


def test_a_missed_poll_keeps_the_last_answer_and_its_age(write: Write, present: Present) -> None:
    write(REGISTRY, answered(10.0), missed(15.0))
    latest = present.snapshot().latest["one"]["sidecar"]
    assert (latest.state, latest.polled_at, latest.answered_at, latest.reason) == (
        State.UNREACHABLE,
        15.0,
        10.0,
        "why",
    )
    assert latest.answer is not None


def test_an_answer_from_another_address_does_not_stand_for_the_new_one(
    write: Write, present: Present
) -> None:
    write(REGISTRY, answered(10.0))
    write(polled(replace(SIDECAR, port=1), 15.0, state=State.UNREACHABLE))
    latest = present.snapshot().latest["one"]["sidecar"]
    assert (latest.url, latest.answered_at, latest.answer) == ("http://127.0.0.1:1", None, None)


def test_it_is_known_since_when_a_model_server_has_answered(write: Write, present: Present) -> None:
    def up_since(at: float, state: State) -> float | None:
        models = (LLAMA,) if state is State.OK else None
        write(REGISTRY, replace(listed(at), state=state, answer=answer(models)))
        return present.snapshot().latest["one"]["ollama"].up_since

    assert up_since(10.0, State.OK) is None  # nobody saw it come
    assert up_since(15.0, State.UNREACHABLE) is None
    assert up_since(20.0, State.OK) == 20.0
    assert up_since(25.0, State.BUSY) == 20.0
    assert up_since(30.0, State.OK) == 20.0
    assert up_since(35.0, State.ERROR) is None
    assert up_since(40.0, State.BUSY) == 40.0


@pytest.mark.parametrize(
    "update",
    [
        REGISTRY,
        Registry(),
        listed(11.0),
        missed(11.0),
        Cycle(6.0, 11.0, 5, 2),
        replace(DISK, models=()),
    ],
)
def test_the_version_changes_with_the_present(write: Write, present: Present, update: Update) -> None:
    write(REGISTRY, *of_one(answered(10.0), listed(10.0, LLAMA)), Cycle(1.0, 6.0, 5, 2))
    before = present.version()
    assert present.version() == before
    write(update)
    assert (present.version() != before) == (update is not REGISTRY)


def test_the_version_is_told_at_once_only_while_nothing_is_new(write: Write, present: Present) -> None:
    write(REGISTRY, answered(10.0))
    version = present.version()
    assert present.version_nowait() in (version, None)
    write(answered(15.0))
    assert present.version_nowait() != version


def test_a_machine_whose_file_is_removed_leaves_the_present(write: Write, present: Present) -> None:
    write(REGISTRY, answered(10.0), DISK)
    assert set(present.snapshot().latest) == set(present.snapshot().libraries) == {"one"}
    write(Registry(loaded_at=20.0))
    assert (present.snapshot().latest, present.snapshot().libraries) == ({}, {})
    write(listed(21.0, LLAMA))  # an answer that came after the file went away
    write(REGISTRY)
    assert (present.snapshot().latest, present.snapshot().libraries) == ({}, {})


def test_an_answer_of_a_machine_that_goes_at_the_same_moment_leaves_nothing(
    write: Write, present: Present
) -> None:
    write(REGISTRY, listed(10.0, LLAMA), Registry(loaded_at=11.0))
    assert present.snapshot().latest == {}


def test_a_registry_that_is_not_whole_removes_nobody(write: Write, present: Present) -> None:
    write(REGISTRY, answered(10.0))
    write(Registry(loaded_at=20.0, is_whole=False))
    assert set(present.snapshot().latest) == {"one"}


def test_names_of_machines_are_case_folded(write: Write, present: Present) -> None:
    write(Registry((machine("ONE"),), loaded_at=1.0), answered(10.0))
    assert set(present.snapshot().latest) == {"one"}


def test_the_last_valid_version_of_a_file_is_kept(write: Write, present: Present) -> None:
    write(REGISTRY)
    assert json.loads(present.last_good("one.yaml")["one.yaml"]) == {"name": "one", "note": "ü"}
    assert present.last_good("two.yaml") == {}
    assert list(present.last_good(None)) == ["one.yaml"]


def test_what_is_on_disk_is_read_as_it_was_written(write: Write, present: Present) -> None:
    write(REGISTRY, DISK)
    assert present.snapshot().libraries == {"one": DISK}
    write(UnchangedLibrary(DISK.machine, DISK.url, 55.0))
    assert present.snapshot().libraries == {"one": replace(DISK, at=55.0)}
    write(replace(DISK, at=60.0, models=()))
    assert present.snapshot().libraries == {"one": replace(DISK, at=60.0, models=())}


def test_a_library_that_is_confirmed_is_newer_and_an_empty_one_remembers_that_it_was_not(
    write: Write, present: Present
) -> None:
    write(REGISTRY, UnchangedLibrary("one", DISK.url, 10.0))
    assert present.snapshot().libraries == {}
    write(replace(DISK, models=()))
    assert not present.snapshot().libraries["one"].has_listed
    write(DISK)
    before = present.version()
    write(UnchangedLibrary("one", DISK.url, 60.0))
    assert present.version() != before
    write(replace(DISK, at=70.0, models=()))
    assert present.snapshot().libraries["one"].has_listed
    write(replace(DISK, at=80.0, models=(), url="http://elsewhere/api/tags"))
    assert not present.snapshot().libraries["one"].has_listed
    write(UnchangedLibrary("one", DISK.url, 90.0))  # of where it was before
    assert present.snapshot().libraries["one"].at == 80.0


def test_what_a_model_took_is_kept_by_digest_and_context(write: Write, present: Present) -> None:
    bare = LoadedModel("bare", None, 7, None, None)
    write(REGISTRY, *of_one(listed(10.0, LLAMA, bare, LoadedModel("unknown"))), *of_one(listed(11.0)))
    write(*of_one(listed(12.0, replace(LLAMA, size_bytes=50), replace(LLAMA, context_length=16384))))
    assert set(present.snapshot().sizes) == {
        ModelSize("bare", None, None, 7, None, 10.0, "one"),
        ModelSize("llama3.1:70b", "d1", 8192, 50, 42, 12.0, "one"),
        ModelSize("llama3.1:70b", "d1", 16384, 42, 42, 12.0, "one"),
    }


def test_the_machine_is_known_that_showed_what_a_model_takes_and_whether_it_used_gpu_memory(
    write: Write, present: Present
) -> None:
    write(REGISTRY, *of_one(listed(10.0, LLAMA)))
    assert [size.machine for size in present.snapshot().sizes] == ["one"]
    assert present.snapshot().vram_users == {"one"}
    write(*of_one(listed(20.0, replace(PHI, size_bytes=9, size_vram_bytes=0))))
    assert present.snapshot().vram_users == set()


def test_it_is_known_since_when_a_model_has_been_held(write: Write, present: Present) -> None:
    write(REGISTRY, *of_one(listed(10.0, LLAMA)), *of_one(listed(15.0, LLAMA, PHI)))
    assert present.snapshot().held_since == {"one": {"llama3.1:70b": 10.0, "phi3:mini": 15.0}}
    write(*of_one(listed(20.0, PHI)))
    assert present.snapshot().held_since == {"one": {"phi3:mini": 15.0}}


def test_a_snapshot_stays_as_it_was(write: Write, present: Present) -> None:
    write(REGISTRY, answered(10.0))
    before = present.snapshot()
    write(answered(15.0))
    assert present.snapshot().latest["one"]["sidecar"].polled_at == 15.0
    assert before.latest["one"]["sidecar"].polled_at == 10.0


def test_threads_that_read_while_it_is_written_see_one_moment_each(write: Write, present: Present) -> None:
    machines = [machine(f"m{number}") for number in range(20)]
    write(Registry(tuple(machines), loaded_at=1.0))

    def read(_: int) -> Snapshot:
        present.version()
        return present.snapshot()

    with ThreadPoolExecutor(8) as threads:
        reading = threads.map(read, range(200))
        for at in range(10, 15):
            cycle = [replace(answered(float(at)), machine=one.name) for one in machines]
            write(*cycle, Cycle(at - 0.5, at + 0.5, 5, 2))
        snapshots = list(reading)
    for snapshot in snapshots:
        if snapshot.cycle:
            oldest = min(polls["sidecar"].polled_at for polls in snapshot.latest.values())
            assert oldest >= snapshot.cycle.started_at


def has_version(present: Present, version: Hashable) -> bool:
    with suppress(StoreError):
        return present.version() == version
    return False


def test_an_unavailable_store_is_an_error_until_it_is_there_again(
    write: Write, present: Present, stores: Stores
) -> None:
    write(REGISTRY, answered(10.0), Cycle(9.0, 11.0, 5, 2))
    version = present.version()
    stores.break_off()
    for call in (present.version, present.snapshot, present.cycle, lambda: present.last_good(None)):
        with pytest.raises(StoreError):
            call()
    assert present.version_nowait() is None
    stores.mend()
    wait_until(lambda: has_version(present, version))
    assert present.snapshot().latest["one"]["sidecar"].answer == RuntimeState(host=HOST)
    present.close()
    present.close()
    assert present.cycle() == Cycle(9.0, 11.0, 5, 2)
