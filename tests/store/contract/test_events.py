"""Events that a store derives from successive polls: each says what happened, once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from machines_server.core.machine import Endpoint, Registry
from machines_server.core.sample import Cycle, GpuSample, HostSample, LoadedModel, PollResult
from machines_server.store.api import Past
from machines_server.store.values import Update
from tests.core.machines import SIDECAR
from tests.store import polls
from tests.store.contract.conftest import Write
from tests.store.contract.stores import MAX_GAP_S, told
from tests.store.polls import REGISTRY, machine, of_one, sample

START = 1_700_000_000


def kinds(past: Past) -> list[str]:
    return [kind for kind, _ in told(past)]


def listed(at: float, *names: str) -> PollResult:
    models = tuple(LoadedModel(name, name, 2**32, 2**32, 4096) for name in names)
    return polls.listed(START + at, *models)


def answered(at: float, **reading: Any) -> PollResult:
    return polls.answered(START + at, HostSample(**reading))


def away(at: float) -> PollResult:
    return polls.missed(START + at)


def up_for(at: float, uptime_s: float) -> Sequence[Update]:
    return of_one(answered(at, uptime_s=uptime_s), listed(at))


def host_at(at: float, name: str, card: str, uptime_s: float, sidecar: Endpoint = SIDECAR) -> list[Any]:
    """What is written of a machine whose sidecar tells this."""
    gpu = GpuSample(0, card, "card", "dedicated", 2**34, 0, 2**34)
    result = answered(at, hostname=name, gpu=(gpu,), uptime_s=uptime_s)
    return of_one(replace(result, endpoint=sidecar), listed(at))


def test_events_tell_the_life_of_a_machine(write: Write, past: Past) -> None:
    write(
        REGISTRY,
        *of_one(answered(10, uptime_s=500.0), listed(10)),
        *of_one(answered(15, uptime_s=505.0), listed(15, "m")),
        *of_one(away(20), listed(20, "m")),
        *of_one(answered(25, uptime_s=3.0), listed(25)),
        Registry((machine(),), loaded_at=START + 30),
        Registry(loaded_at=START + 31),
    )
    found = told(past)
    assert [kind for kind, _ in found] == [
        "machine_added",
        "online",
        "model_loaded",
        "degraded",
        "online",
        "host_rebooted",
        "model_unloaded",
        "machine_removed",
    ]
    assert found[2][1]["size_vram_gb"] == 4
    assert found[3][1] == {"before": "online", "reason": "sidecar: why"}
    assert found[6][1]["resident_s"] == 5


def test_events_are_chosen_by_machines_types_and_time(write: Write, past: Past) -> None:
    write(Registry((machine(), machine("two")), loaded_at=START), *up_for(10, 1.0), *of_one(away(20)))
    assert kinds(past) == ["machine_added", "machine_added", "online", "offline"]
    assert [event.machine for event in past.events(["TWO"], [], 0, 1e11, 100).events] == ["two"]
    assert len(past.events(["two", "One"], [], 0, 1e11, 100).events) == 4
    (offline,) = past.events([], ["offline"], 0, 1e11, 100).events
    assert past.events(["nobody"], [], 0, 1e11, 100) == ([], False, offline.id)
    page, is_truncated, newest = past.events([], ["online", "offline"], 0, 1e11, 1)
    assert (list(page), is_truncated, newest) == ([offline], True, offline.id)
    found = past.events([], [], START + 10, START + 20, 9)
    assert ([event.at - START for event in found.events], found.is_truncated) == ([10], False)


def test_pages_go_on_after_an_event_in_either_direction(write: Write, past: Past) -> None:
    names = [f"m{number}" for number in range(4)]
    write(Registry(tuple(map(machine, names)), loaded_at=START))  # all at the same time
    newest = past.events([], [], 0, 1e11, 100).events
    ids = [event.id for event in newest]
    assert ids == sorted(ids, reverse=True)

    def page(limit: int, **place: int) -> tuple[list[int], bool]:
        found = past.events([], [], 0, 1e11, limit, **place)
        return [event.id for event in found.events], found.is_truncated

    assert page(2) == (ids[:2], True)
    assert page(2, before=ids[1]) == (ids[2:], False)
    assert page(2, before=ids[3]) == ([], False)
    assert page(2, after=ids[3]) == (ids[1:3], True)
    assert page(2, after=ids[1]) == (ids[:1], False)
    assert page(2, after=ids[0]) == ([], False)
    assert page(9, before=ids[0] + 1000) == (ids, False)  # of an event that is not there
    assert page(9, before=0) == ([], False)


def test_an_event_written_late_has_its_place_by_time_and_follows_by_id(write: Write, past: Past) -> None:
    write(Registry((machine(),), loaded_at=START + 10))
    write(Registry((machine(), machine("late")), loaded_at=START))
    newest = past.events([], [], 0, 1e11, 9).events
    assert [event.machine for event in newest] == ["one", "late"]
    assert [event.machine for event in past.events([], [], 0, 1e11, 9, before=newest[0].id).events] == [
        "late"
    ]
    assert [event.machine for event in past.events([], [], 0, 1e11, 9, after=newest[0].id).events] == ["late"]


def test_statuses_begin_with_the_one_before(write: Write, past: Past) -> None:
    write(REGISTRY, *up_for(10, 1.0), *of_one(away(20)), *up_for(30, 21.0))
    write(Registry(loaded_at=START + 40))
    statuses = [(at - START, status) for _, at, status in past.statuses("One", START + 15, START + 100)]
    assert statuses == [(10, "online"), (20, "offline"), (30, "online"), (40, "machine_removed")]
    assert [change.at - START for change in past.statuses("one", START + 15, START + 30)] == [10, 20]


def test_statuses_of_all_machines_come_one_machine_after_the_other(write: Write, past: Past) -> None:
    both = Registry((machine(), machine("two")), loaded_at=START)
    write(both, *up_for(10, 1.0), replace(sample(answered(12)), machine="two"), *of_one(away(20)))
    write(Registry((machine(),), loaded_at=START + 30), *up_for(35, 26.0))
    found = [(name, at - START, status) for name, at, status in past.statuses(None, START + 15, START + 99)]
    assert sorted(found, key=lambda change: change[0]) == [
        ("one", 10, "online"),
        ("one", 20, "offline"),
        ("one", 35, "online"),
        ("two", 12, "online"),
        ("two", 30, "machine_removed"),
    ]
    assert [name for name, *_ in found] in (["one"] * 3 + ["two"] * 2, ["two"] * 2 + ["one"] * 3)
    assert {change.machine for change in past.statuses(None, START + 31, START + 99)} == {"one"}


def test_a_machine_that_we_could_not_ask_is_unknown_after_the_gap(write: Write, past: Past) -> None:
    cycles = [Cycle(START + at, START + at + 1, 5, 2) for at in (10, 15, 20, 25)]
    write(REGISTRY, *up_for(10, 1.0), *cycles)
    assert kinds(past)[-1] == "unknown"
    assert told(past, "unknown") == [
        ("unknown", {"before": "online", "reason": "this server could not poll it"})
    ]
    assert past.events([], ["unknown"], 0, 1e11, 1).events[0].at - START > 10 + MAX_GAP_S


def test_another_host_under_the_same_name_is_an_event_and_no_reboot(write: Write, past: Past) -> None:
    write(
        REGISTRY,
        *host_at(10, "alpha", "GPU-a", 9000),
        *host_at(15, "beta", "GPU-b", 100),
        *host_at(20, "beta", "GPU-b", 105),
    )
    assert told(past, "host_changed", "host_rebooted") == [
        (
            "host_changed",
            {
                "reason": "its host name changed from alpha to beta",
                "hostname_before": "alpha",
                "hostname": "beta",
                "gpu_before": ["GPU-a"],
                "gpu": ["GPU-b"],
            },
        )
    ]


def test_a_host_that_changed_while_nobody_polled_is_an_event(write: Write, past: Past) -> None:
    write(REGISTRY, *host_at(10, "alpha", "GPU-a", 9000))
    write(REGISTRY, *host_at(1000, "beta", "GPU-b", 100))
    assert [kind for kind in kinds(past) if kind.startswith("host_")] == ["host_changed"]


def test_a_file_that_names_another_address_is_no_change_of_the_host_behind_it(
    write: Write, past: Past
) -> None:
    write(
        REGISTRY,
        *host_at(10, "alpha", "GPU-a", 9000),
        *host_at(15, "beta", "GPU-b", 9000, sidecar=replace(SIDECAR, hostname="10.0.0.8")),
    )
    assert "host_changed" not in kinds(past)


def test_another_poller_makes_no_event(write: Write, past: Past) -> None:
    write(REGISTRY, *of_one(answered(10, uptime_s=500.0), listed(10, "m")))
    before = told(past)
    for at in (15, 1000):  # after a short break, and after a long one
        write(REGISTRY, *of_one(answered(at, uptime_s=490.0 + at), listed(at, "m")))
    assert told(past) == before


def test_a_reboot_while_nobody_polled_is_told_though_the_host_is_up_for_longer(
    write: Write, past: Past
) -> None:
    write(REGISTRY, *up_for(10, 500.0))
    write(REGISTRY, *up_for(86_400, 3000.0))
    assert told(past, "host_rebooted") == [("host_rebooted", {"uptime_s": 3000.0, "uptime_before_s": 500.0})]


def test_a_reboot_while_the_host_was_away_is_told_once(write: Write, past: Past) -> None:
    write(
        REGISTRY,
        *up_for(10, 500.0),
        *of_one(away(20), listed(20)),
        *up_for(9000, 600.0),
        *up_for(9005, 605.0),
    )
    assert told(past, "host_rebooted") == [("host_rebooted", {"uptime_s": 600.0, "uptime_before_s": 500.0})]


def test_a_clock_of_ours_that_leaps_reboots_nobody(write: Write, past: Past) -> None:
    write(REGISTRY, *up_for(10, 500.0), *up_for(90_000, 505.0), *up_for(20, 510.0))
    assert told(past, "host_rebooted") == []
