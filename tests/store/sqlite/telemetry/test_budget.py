"""A host that makes up names costs a bounded share of the disk, and its machine says so."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from machines_server.core.machine import Registry
from machines_server.core.sample import (
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    RuntimeState,
    Sample,
    State,
)
from machines_server.core.state import MachineState, machine_state
from machines_server.core.status import Status, Verdict
from machines_server.store.sql.budget import (
    MAX_CHANGES_AN_HOUR,
    MAX_GPUS_AN_HOUR,
    MAX_LOADS_AN_HOUR,
    MAX_MODELS_AN_HOUR,
    MAX_REBOOTS_AN_HOUR,
)
from machines_server.store.sqlite.connection import transaction
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.rollups import MAX_MODEL_SIZES, Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention
from tests.store.polls import GPU, HOST, LLAMA, PHI, RETENTION, machine

HOUR_S = 3600.0
AT = 500_000 * HOUR_S
MACHINES = (machine("one"), machine("two"))
DAY = Retention(raw_s=HOUR_S, minute_s=HOUR_S, hour_s=24 * HOUR_S)


def opened(connection: sqlite3.Connection) -> SampleWriter:
    """As a poller that starts does."""
    writer = SampleWriter(connection, 12, Rollups(connection, RETENTION))
    writer.write([Registry(MACHINES, loaded_at=1.0)])
    return writer


def models(count: int, prefix: str, context_length: int = 8192) -> tuple[LoadedModel, ...]:
    names = (f"{prefix}-{number}" for number in range(count))
    return tuple(replace(LLAMA, model=name, context_length=context_length) for name in names)


def cards(count: int, prefix: str) -> tuple[GpuSample, ...]:
    return tuple(replace(GPU, index=number + 1, uuid=f"{prefix}-{number}") for number in range(count))


def cycle(at: float, host: HostSample, *listed: LoadedModel, of: str = "one") -> list[PollResult | Sample]:
    """What one cycle learns of a machine whose sidecar and Ollama answer."""
    answers = {"sidecar": RuntimeState(host=host), "ollama": RuntimeState(models=listed)}
    polls = {
        kind: PollResult(of, endpoint, State.OK, at, 0.01, answer=answers[kind])
        for kind, endpoint in machine(of).endpoints.items()
    }
    return [*polls.values(), Sample(of, polls)]


def count(connection: sqlite3.Connection, what: str) -> int:
    (found,) = connection.execute(f"SELECT count(*) FROM {what}").fetchone()
    return int(found)


def live(path: Path, now: float, of: str = "one") -> MachineState:
    """What a reader says of a machine."""
    with closing(LatestReader(path)) as reader:
        return machine_state(machine(of), reader.snapshot().latest[of], None, now, 12)


def test_a_host_that_claims_a_thousand_new_models_a_cycle_fills_an_hours_share_and_no_more(
    connection: sqlite3.Connection, path: Path
) -> None:
    writer = opened(connection)
    for number in range(10):
        at = AT + 5 * number
        writer.write(cycle(at, HOST, *models(1000, f"round{number}")))
        writer.write(cycle(at, HOST, LLAMA, of="two"))
    assert count(connection, "(SELECT DISTINCT model FROM model_span)") == MAX_MODELS_AN_HOUR + 1
    assert count(connection, "event WHERE type LIKE 'model%'") <= 2 * MAX_MODELS_AN_HOUR + 1
    assert count(connection, "model_size") == MAX_MODELS_AN_HOUR + 1
    shown = live(path, at)
    assert len(shown.loaded_models) == 1000
    assert shown.verdict.status is Status.ONLINE
    assert f"ollama: over {MAX_MODELS_AN_HOUR} new models" in (shown.verdict.reason or "")
    assert live(path, at, "two").verdict == Verdict(Status.ONLINE)


def test_a_host_that_claims_256_new_gpus_a_cycle_fills_an_hours_share_and_no_more(
    connection: sqlite3.Connection, path: Path
) -> None:
    writer = opened(connection)
    writer.write(cycle(AT - 10, HOST))
    for number in range(10):
        at = AT + 5 * number
        writer.write(cycle(at, replace(HOST, gpu=(GPU, *cards(255, f"round{number}")))))
    assert count(connection, "gpu") == MAX_GPUS_AN_HOUR + 1
    assert count(connection, "gpu_sample") == MAX_GPUS_AN_HOUR + 11
    shown = live(path, at)
    assert shown.host
    assert len(shown.host.gpu) == 256
    assert f"sidecar: over {MAX_GPUS_AN_HOUR} new GPUs" in (shown.verdict.reason or "")


def test_the_same_names_over_and_over_fill_an_hours_share_and_no_more(
    connection: sqlite3.Connection, path: Path
) -> None:
    writer = opened(connection)
    for number in range(30):
        at = AT + 5 * number
        writer.write(cycle(at, HOST, *models(40, "same", context_length=number + 1)))
    assert count(connection, "model_span") == MAX_LOADS_AN_HOUR
    assert "left out of the history" in (live(path, at).verdict.reason or "")


def test_a_host_that_says_it_was_rebooted_in_every_cycle_tells_so_a_few_times(
    connection: sqlite3.Connection, path: Path
) -> None:
    for restart in range(2):
        writer = opened(connection)
        for number in range(60):
            at = AT + 600 * restart + 5 * number
            writer.write(cycle(at, replace(HOST, uptime_s=100_000 - 100 * number)))
    assert count(connection, "event WHERE type = 'host_rebooted'") == MAX_REBOOTS_AN_HOUR
    assert "reboots within an hour" in (live(path, at).verdict.reason or "")


def test_a_host_that_says_it_is_another_in_every_cycle_tells_so_a_few_times(
    connection: sqlite3.Connection, path: Path
) -> None:
    writer = opened(connection)
    for number in range(60):
        at = AT + 5 * number
        writer.write(cycle(at, replace(HOST, hostname=f"host{number}", gpu=())))
    assert count(connection, "event WHERE type = 'host_changed'") == MAX_CHANGES_AN_HOUR
    assert "changes of host within an hour" in (live(path, at).verdict.reason or "")


def test_a_poller_that_starts_again_knows_what_the_hour_has_cost(connection: sqlite3.Connection) -> None:
    for number in range(5):
        at = AT + 60 * number
        opened(connection).write(
            cycle(at, replace(HOST, gpu=cards(60, f"r{number}")), *models(90, f"r{number}"))
        )
    assert count(connection, "(SELECT DISTINCT model FROM model_span)") == MAX_MODELS_AN_HOUR
    assert count(connection, "gpu") == MAX_GPUS_AN_HOUR


def test_what_was_left_out_is_kept_as_soon_as_the_next_hour_has_room(
    connection: sqlite3.Connection, path: Path
) -> None:
    writer = opened(connection)
    listed = models(MAX_MODELS_AN_HOUR + 20, "m")
    for at in (AT, AT + 5):
        writer.write(cycle(at, HOST, *listed))
    assert count(connection, "model_span") == MAX_MODELS_AN_HOUR
    for seconds in range(10, 3700, 10):
        writer.write(cycle(AT + seconds, HOST, *listed))
    assert count(connection, "model_span WHERE last_seen_at_ms IS NULL") == len(listed)
    assert live(path, AT + 3690).verdict == Verdict(Status.ONLINE)


def test_a_machine_that_swaps_models_as_fast_as_it_can_keeps_its_history(
    connection: sqlite3.Connection, path: Path
) -> None:
    writer = opened(connection)
    for number in range(300):
        writer.write(cycle(AT + 10 * number, HOST, (LLAMA, PHI)[number % 2]))
    assert count(connection, "model_span") == 300
    assert live(path, AT + 2990).verdict == Verdict(Status.ONLINE)


def test_a_gpu_that_is_not_seen_any_more_ages_out_with_its_history(connection: sqlite3.Connection) -> None:
    rollups = Rollups(connection, DAY)
    writer = SampleWriter(connection, 12, rollups)
    writer.write([Registry(MACHINES, loaded_at=1.0)])
    other = replace(GPU, uuid="GPU-other", index=1)
    rollups.step(AT, 0.0)
    writer.write(cycle(AT, replace(HOST, gpu=(GPU, other))))
    for hours in range(1, 30):
        at = AT + hours * HOUR_S
        writer.write(cycle(at, HOST))
        while rollups.step(at + 120, HOUR_S):
            pass
        if hours == 20:
            assert count(connection, "gpu") == 2
    assert connection.execute("SELECT uuid FROM gpu").fetchall() == [("GPU-a",)]
    for table in ("gpu_sample", "gpu_sample_1m", "gpu_sample_10m", "gpu_sample_1h"):
        assert count(connection, f"{table} WHERE gpu_id NOT IN (SELECT id FROM gpu)") == 0
    writer.write(cycle(at + 5, replace(HOST, gpu=(other,))))  # it comes back
    assert count(connection, "gpu") == 2
    assert count(connection, f"gpu_sample WHERE at_ms = {round((at + 5) * 1000)}") == 1


def test_what_models_took_is_forgotten_with_the_oldest_history_and_beyond_a_bound(
    connection: sqlite3.Connection,
) -> None:
    rollups = Rollups(connection, DAY)
    with transaction(connection):
        for number in range(MAX_MODEL_SIZES + 500):
            row = (1, f"m{number}", "", 0, 1, None, round(AT * 1000) + number)
            connection.execute("INSERT INTO model_size VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute(
            "INSERT INTO model_size VALUES (1, 'old', '', 0, 1, NULL, ?)", (round(AT * 1000) - 10**9,)
        )
    rollups.step(AT, 0.0)
    assert count(connection, "model_size") == MAX_MODEL_SIZES
    assert (
        connection.execute("SELECT min(seen_at_ms) FROM model_size").fetchone()[0] == round(AT * 1000) + 500
    )
