"""What was polled, written to a real database and read again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from machines_server.core.machine import Registry
from machines_server.core.sample import (
    Cycle,
    Library,
    ModelSize,
    Sample,
    State,
)
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import known_migrations, migrate
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from tests.core.machines import BOTH, OLLAMA, SIDECAR
from tests.store.polls import (
    GPU,
    HOST,
    LLAMA,
    PHI,
    REGISTRY,
    RETENTION,
    listed,
    machine,
    of_one,
    polled,
)


def open_samples(connection: sqlite3.Connection) -> SampleWriter:
    return SampleWriter(connection, 12, Rollups(connection, RETENTION))


@pytest.fixture
def writer(connection: sqlite3.Connection) -> SampleWriter:
    writer = open_samples(connection)
    writer.write([REGISTRY])
    return writer


@pytest.fixture
def reader(path: Path) -> Iterator[LatestReader]:
    reader = LatestReader(path)
    yield reader
    reader.close()


def states(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT endpoint, state, at_ms / 1000 FROM endpoint_state ORDER BY at_ms, endpoint"
    ).fetchall()


def spans(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT model, first_seen_at_ms / 1000, last_seen_at_ms / 1000 FROM model_span ORDER BY id"
    ).fetchall()


def test_the_version_stays_when_something_is_written_of_the_past(
    writer: SampleWriter, reader: LatestReader, connection: sqlite3.Connection
) -> None:
    writer.write([*of_one(polled(SIDECAR, 10.0, HOST), listed(10.0, LLAMA)), Cycle(1.0, 6.0, 5, 2)])
    before = reader.version()
    connection.execute("INSERT INTO event (at_ms, machine_id, type, detail) VALUES (1, 1, 'online', '{}')")
    assert reader.version() == before


def test_a_sample_is_one_row_and_one_for_each_gpu_with_null_for_unknown_and_zero_for_zero(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    results = {"sidecar": polled(SIDECAR, 10.0, HOST), "ollama": listed(10.5)}
    writer.write([Sample("one", results)])
    row = connection.execute("SELECT at_ms, up, cpu_percent, load_1m, ram_used_bytes FROM sample").fetchone()
    assert row == (10_000, 1, 12_400, None, 2**30)
    row = connection.execute(
        "SELECT uuid, at_ms, vram_free_bytes, utilisation, power_w FROM gpu_sample JOIN gpu ON id = gpu_id"
    ).fetchone()
    assert row == ("GPU-a", 10_000, 6, 0, None)


def test_a_cycle_in_which_nothing_answered_is_a_sample_too(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    missed = {one.kind: polled(one, 10.0, state=State.UNREACHABLE) for one in BOTH}
    writer.write([Sample("one", missed)])
    assert connection.execute("SELECT up, cpu_percent FROM sample").fetchone() == (0, None)
    assert states(connection) == [("ollama", "unreachable", 10), ("sidecar", "unreachable", 10)]


def test_a_state_is_a_row_when_it_changes_and_once_in_each_hour(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    hour = 3600.0
    for at, state in (
        (10.0, State.OK),
        (15.0, State.OK),
        (20.0, State.BUSY),
        (25.0, State.BUSY),
        (hour, State.BUSY),
    ):
        writer.write(of_one(polled(SIDECAR, at, state=State(state)), polled(OLLAMA, at, state=State.OK)))
    writer.write(of_one(polled(SIDECAR, hour + 5, state=State.BUSY)))  # Ollama is not declared any more
    writer.write(of_one(polled(SIDECAR, hour + 10, state=State.BUSY)))
    assert states(connection) == [
        *(("ollama", "ok", 10), ("sidecar", "ok", 10), ("sidecar", "busy", 20)),
        *(("ollama", "ok", 3600), ("sidecar", "busy", 3600), ("ollama", None, 3605)),
    ]


def test_a_gpu_is_known_by_its_uuid_wherever_it_sits(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    for at, index in ((10.0, 0), (15.0, 3)):
        host = replace(HOST, gpu=(replace(GPU, index=index),))
        writer.write([Sample("one", {"sidecar": polled(SIDECAR, at, host)})])
    assert connection.execute("SELECT uuid, position FROM gpu").fetchall() == [("GPU-a", 3)]
    assert connection.execute("SELECT count(*) FROM gpu_sample").fetchone() == (2,)


def test_a_model_that_stays_is_one_row_and_costs_no_write_per_cycle(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    for at in (10.0, 15.0, 20.0):
        writer.write(of_one(listed(at, LLAMA, PHI)))
    writer.write(of_one(listed(25.0, PHI)))
    assert sorted(spans(connection)) == [("llama3.1:70b", 10, 20), ("phi3:mini", 10, None)]


def test_a_reload_with_another_context_is_another_stay(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    writer.write(of_one(listed(10.0, LLAMA)))
    writer.write(of_one(listed(15.0, replace(LLAMA, context_length=32768))))
    assert spans(connection) == [("llama3.1:70b", 10, 10), ("llama3.1:70b", 15, None)]


def test_a_stay_goes_on_while_ollama_does_not_answer_and_ends_where_it_was_last_seen(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    writer.write(of_one(listed(10.0, LLAMA)))
    writer.write(of_one(polled(OLLAMA, 15.0, state=State.BUSY)))
    writer.write(of_one(polled(OLLAMA, 17.0, state=State.UNREACHABLE)))
    assert spans(connection) == [("llama3.1:70b", 10, None)]
    writer.write(of_one(listed(20.0, LLAMA)))
    assert spans(connection) == [("llama3.1:70b", 10, None)]
    writer.write(of_one(polled(OLLAMA, 25.0, state=State.UNREACHABLE)))
    writer.write(of_one(listed(30.0)))
    assert spans(connection) == [("llama3.1:70b", 10, 20)]


def test_a_stay_goes_on_over_a_short_restart_of_the_server_and_not_over_a_long_one(
    connection: sqlite3.Connection, writer: SampleWriter
) -> None:
    writer.write(of_one(listed(10.0, LLAMA)))
    open_samples(connection).write(of_one(listed(20.0, LLAMA)))
    assert spans(connection) == [("llama3.1:70b", 10, None)]
    open_samples(connection).write(of_one(listed(100.0, LLAMA)))
    assert spans(connection) == [("llama3.1:70b", 10, 20), ("llama3.1:70b", 100, None)]


def test_a_removed_machine_keeps_its_history_and_comes_back_as_itself(
    writer: SampleWriter, connection: sqlite3.Connection, reader: LatestReader
) -> None:
    sample = Sample("one", {"ollama": listed(10.0, LLAMA)})
    writer.write([listed(10.0, LLAMA), sample])
    writer.write([Registry(loaded_at=20.0)])
    assert reader.snapshot().latest == {}
    assert spans(connection) == [("llama3.1:70b", 10, 10)]
    writer.write([listed(21.0, LLAMA), sample])  # an answer that came after the file went away
    assert connection.execute("SELECT count(*) FROM sample").fetchone() == (1,)
    writer.write([REGISTRY])
    assert connection.execute("SELECT name, removed_at_ms FROM machine").fetchall() == [("one", None)]


def test_a_reader_makes_only_what_is_new_to_it(writer: SampleWriter, reader: LatestReader) -> None:
    writer.write([Registry((machine(), machine("two")), loaded_at=2.0)])
    writer.write([replace(listed(10.0, LLAMA), machine=name) for name in ("one", "two")])
    before = reader.snapshot()
    writer.write([listed(15.0, LLAMA)])
    after = reader.snapshot()
    assert after.latest["two"] is before.latest["two"]
    assert after.latest["one"]["ollama"].polled_at == 15.0
    assert before.latest["one"]["ollama"].polled_at == 10.0


def test_many_samples_at_once_are_all_kept_and_the_last_is_the_latest(
    writer: SampleWriter, connection: sqlite3.Connection, reader: LatestReader
) -> None:
    times = [10.0 + number for number in range(201)]
    writer.write([item for at in times for item in of_one(polled(SIDECAR, at, HOST))])
    kept = connection.execute("SELECT at_ms / 1000.0 FROM sample ORDER BY at_ms").fetchall()
    assert [at for (at,) in kept] == times
    assert connection.execute("SELECT count(*) FROM gpu_sample").fetchone() == (201,)
    assert reader.snapshot().latest["one"]["sidecar"].polled_at == times[-1]


def test_a_write_that_fails_writes_nothing_and_can_be_repeated(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    too_large = replace(LLAMA, size_bytes=2**70)
    with pytest.raises(TypeError, match="64-bit"):
        writer.write(of_one(listed(10.0, PHI), listed(15.0, too_large)))
    assert spans(connection) == []
    writer.write(of_one(listed(15.0, PHI)))
    assert spans(connection) == [("phi3:mini", 15, None)]


def test_a_poll_or_library_that_has_not_changed_is_not_read_anew(
    connection: sqlite3.Connection, path: Path
) -> None:
    writer, reader = open_samples(connection), LatestReader(path)
    writer.write([REGISTRY, polled(SIDECAR, 10.0, HOST), listed(10.0, LLAMA)])
    writer.write([Library("one", OLLAMA.url, 10.0, ())])
    first = reader.snapshot()
    before = first.latest["one"]
    writer.write([listed(11.0, LLAMA)])
    second = reader.snapshot()
    assert second.libraries["one"] is first.libraries["one"]
    assert second.sizes is first.sizes
    after = second.latest["one"]
    assert after["sidecar"] is before["sidecar"]
    assert after["ollama"] is not before["ollama"]
    assert after["ollama"].polled_at == 11.0


def test_what_models_took_before_is_taken_over_from_an_older_database(tmp_path: Path) -> None:
    path, known = tmp_path / "telemetry.db", known_migrations()
    migrate(path, known[:2])
    with closing(open_writer(path)) as connection:
        connection.execute("INSERT INTO machine VALUES (1, 'one', 'one.yaml', '{}', 0, NULL)")
        for digest, context, size, at_ms in (("d1", 8, 40, 1000), ("d1", 8, 42, 2000), (None, None, 9, 500)):
            connection.execute(
                "INSERT INTO model_span"
                " (machine_id, model, digest, size_bytes, context_length, first_seen_at_ms)"
                " VALUES (1, 'm', ?, ?, ?, ?)",
                (digest, size, context, at_ms),
            )
    assert migrate(path)[0] == "0003_routing.sql"
    assert set(LatestReader(path).snapshot().sizes) == {
        ModelSize("m", "d1", 8, 42, None, 2.0),
        ModelSize("m", None, None, 9, None, 0.5),
        ModelSize("m", "d1", 8, 42, None, 2.0, "one"),
        ModelSize("m", None, None, 9, None, 0.5, "one"),
    }
