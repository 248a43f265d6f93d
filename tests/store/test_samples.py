"""What was polled, written to a real database and read again."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from machines_server.core.registry import Endpoint, Machine, Registry
from machines_server.core.sample import (
    Cycle,
    GpuSample,
    HostSample,
    Library,
    LoadedModel,
    ModelSize,
    PollResult,
    Sample,
    State,
    StoredModel,
)
from machines_server.errors import StoreError
from machines_server.store.connection import open_writer
from machines_server.store.latest import LatestReader
from machines_server.store.migrate import known_migrations, migrate
from machines_server.store.rollups import Retention, Rollups
from machines_server.store.samples import SampleWriter

URL = "http://127.0.0.1:1/"
RETENTION = Retention(raw_s=48 * 3600, minute_s=30 * 86_400, hour_s=730 * 86_400)
LLAMA = LoadedModel("llama3.1:70b", "d1", 42, 42, 8192)
PHI = LoadedModel("phi3:mini", "d2", 5, 0, 4096)
GPU = GpuSample(0, "GPU-a", "card", "dedicated", 24, 18, 6, 0, 61, None)
HOST = HostSample(cpu_percent=12.4, ram_used_bytes=2**30, gpu=(GPU,))


def machine(name: str = "one") -> Machine:
    declared: dict[str, Any] = {"name": name, "note": "ü"}
    return Machine(
        name=name,
        file=f"{name}.yaml",
        role="r",
        hostname="127.0.0.1",
        port=1,
        sidecar_port=2,
        has_ollama=True,
        has_sidecar=True,
        models=(),
        declared=declared,
        declared_json={key: json.dumps(value, ensure_ascii=False) for key, value in declared.items()},
    )


REGISTRY = Registry((machine(),), loaded_at=1.0)


def polled(endpoint: Endpoint, at: float, answer: Any = None, state: State = State.OK) -> PollResult:
    return PollResult("one", endpoint, URL, state, at, 0.01, None if answer is not None else "why", answer)


def listed(at: float, *models: LoadedModel) -> PollResult:
    return polled(Endpoint.OLLAMA, at, models)


def of_one(*results: PollResult) -> list[PollResult | Sample]:
    """What a cycle hands over of a machine: each result, and the sample that they make."""
    return [*results, Sample("one", {result.endpoint: result for result in results})]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "telemetry.db"
    migrate(path)
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(path)
    yield connection
    connection.close()


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


def spans(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT model, first_seen_at_ms / 1000, last_seen_at_ms / 1000 FROM model_span ORDER BY id"
    ).fetchall()


def test_the_latest_poll_of_each_endpoint_is_read_as_it_was_written(
    writer: SampleWriter, reader: LatestReader
) -> None:
    writer.write([polled(Endpoint.SIDECAR, 10.0, HOST), listed(11.0, LLAMA), Cycle(9.5, 11.5, 5, 2)])
    snapshot = reader.snapshot()
    sidecar, ollama = snapshot.latest["one"][Endpoint.SIDECAR], snapshot.latest["one"][Endpoint.OLLAMA]
    assert (sidecar.state, sidecar.polled_at, sidecar.answered_at) == (State.OK, 10.0, 10.0)
    assert ollama.answer == (LLAMA,)
    assert sidecar.answer == HOST
    assert repr(sidecar.answer) == repr(HOST)  # 61 did not become 61.0
    assert snapshot.cycle == Cycle(9.5, 11.5, 5, 2)


def test_a_missed_poll_keeps_the_last_answer_and_its_age(writer: SampleWriter, reader: LatestReader) -> None:
    writer.write([polled(Endpoint.SIDECAR, 10.0, HOST)])
    writer.write([polled(Endpoint.SIDECAR, 15.0, state=State.UNREACHABLE)])
    latest = reader.snapshot().latest["one"][Endpoint.SIDECAR]
    assert (latest.state, latest.polled_at, latest.answered_at, latest.reason) == (
        "unreachable",
        15.0,
        10.0,
        "why",
    )
    assert latest.answer is not None


def test_an_answer_from_another_address_does_not_stand_for_the_new_one(
    writer: SampleWriter, reader: LatestReader
) -> None:
    writer.write([polled(Endpoint.SIDECAR, 10.0, HOST)])
    writer.write([replace(polled(Endpoint.SIDECAR, 15.0, state=State.UNREACHABLE), url="http://other/")])
    latest = reader.snapshot().latest["one"][Endpoint.SIDECAR]
    assert (latest.url, latest.answered_at, latest.answer) == ("http://other/", None, None)


@pytest.mark.parametrize(
    "item",
    [
        REGISTRY,
        Registry(),
        listed(11.0),
        polled(Endpoint.SIDECAR, 11.0, state=State.UNREACHABLE),
        Cycle(6.0, 11.0, 5, 2),
        Library("one", f"{URL}api/tags", 11.0, ()),
    ],
)
def test_the_version_changes_with_the_present_and_not_with_the_past(
    writer: SampleWriter, reader: LatestReader, connection: sqlite3.Connection, item: Any
) -> None:
    writer.write([*of_one(polled(Endpoint.SIDECAR, 10.0, HOST), listed(10.0, LLAMA)), Cycle(1.0, 6.0, 5, 2)])
    before = reader.version()
    connection.execute("INSERT INTO event (at_ms, machine_id, type, detail) VALUES (1, 1, 'online', '{}')")
    assert reader.version() == before
    writer.write([item])
    assert (reader.version() != before) == (item is not REGISTRY)


def test_a_sample_is_one_row_and_one_for_each_gpu_with_null_for_unknown_and_zero_for_zero(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    results = {Endpoint.SIDECAR: polled(Endpoint.SIDECAR, 10.0, HOST), Endpoint.OLLAMA: listed(10.5)}
    writer.write([Sample("one", results)])
    row = connection.execute(
        "SELECT at_ms, sidecar, ollama, up, cpu_percent, load_1m, ram_used_bytes FROM sample"
    ).fetchone()
    assert row == (10_000, "ok", "ok", 1, 12_400, None, 2**30)
    row = connection.execute(
        "SELECT uuid, at_ms, vram_free_bytes, utilisation, power_w FROM gpu_sample JOIN gpu ON id = gpu_id"
    ).fetchone()
    assert row == ("GPU-a", 10_000, 6, 0, None)


def test_a_cycle_in_which_nothing_answered_is_a_sample_too(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    missed = {endpoint: polled(endpoint, 10.0, state=State.UNREACHABLE) for endpoint in Endpoint}
    writer.write([Sample("one", missed)])
    assert connection.execute("SELECT up, sidecar, cpu_percent FROM sample").fetchone() == (
        0,
        "unreachable",
        None,
    )


def test_a_gpu_is_known_by_its_uuid_wherever_it_sits(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    for at, index in ((10.0, 0), (15.0, 3)):
        host = replace(HOST, gpu=(replace(GPU, index=index),))
        writer.write([Sample("one", {Endpoint.SIDECAR: polled(Endpoint.SIDECAR, at, host)})])
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
    writer.write(of_one(polled(Endpoint.OLLAMA, 15.0, state=State.BUSY)))
    writer.write(of_one(polled(Endpoint.OLLAMA, 17.0, state=State.UNREACHABLE)))
    assert spans(connection) == [("llama3.1:70b", 10, None)]
    writer.write(of_one(listed(20.0, LLAMA)))
    assert spans(connection) == [("llama3.1:70b", 10, None)]
    writer.write(of_one(polled(Endpoint.OLLAMA, 25.0, state=State.UNREACHABLE)))
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
    sample = Sample("one", {Endpoint.OLLAMA: listed(10.0, LLAMA)})
    writer.write([listed(10.0, LLAMA), sample])
    writer.write([Registry(loaded_at=20.0)])
    assert reader.snapshot().latest == {}
    assert spans(connection) == [("llama3.1:70b", 10, 10)]
    writer.write([listed(21.0, LLAMA), sample])  # an answer that came after the file went away
    assert connection.execute("SELECT count(*) FROM sample").fetchone() == (1,)
    writer.write([REGISTRY])
    assert connection.execute("SELECT name, removed_at_ms FROM machine").fetchall() == [("one", None)]


def test_an_answer_of_a_machine_that_goes_in_the_same_moment_leaves_nothing(
    writer: SampleWriter, reader: LatestReader
) -> None:
    writer.write([listed(10.0, LLAMA), Registry(loaded_at=11.0)])
    assert reader.snapshot().latest == {}


def test_a_reader_makes_only_what_is_new_to_it(writer: SampleWriter, reader: LatestReader) -> None:
    writer.write([Registry((machine(), machine("two")), loaded_at=2.0)])
    writer.write([replace(listed(10.0, LLAMA), machine=name) for name in ("one", "two")])
    before = reader.snapshot()
    writer.write([listed(15.0, LLAMA)])
    after = reader.snapshot()
    assert after.latest["two"] is before.latest["two"]
    assert after.latest["one"][Endpoint.OLLAMA].polled_at == 15.0
    assert before.latest["one"][Endpoint.OLLAMA].polled_at == 10.0


def test_a_reader_forgets_a_machine_that_went_and_came_back(
    writer: SampleWriter, reader: LatestReader
) -> None:
    writer.write([listed(10.0, LLAMA)])
    assert set(reader.snapshot().latest) == {"one"}
    writer.write([Registry(loaded_at=20.0)])
    writer.write([REGISTRY])
    assert reader.snapshot().latest == {}


def test_many_samples_at_once_are_all_kept_and_the_last_is_the_latest(
    writer: SampleWriter, connection: sqlite3.Connection, reader: LatestReader
) -> None:
    times = [10.0 + number for number in range(201)]
    writer.write([item for at in times for item in of_one(polled(Endpoint.SIDECAR, at, HOST))])
    kept = connection.execute("SELECT at_ms / 1000.0 FROM sample ORDER BY at_ms").fetchall()
    assert [at for (at,) in kept] == times
    assert connection.execute("SELECT count(*) FROM gpu_sample").fetchone() == (201,)
    assert reader.snapshot().latest["one"][Endpoint.SIDECAR].polled_at == times[-1]


@pytest.mark.usefixtures("writer")
def test_the_last_good_version_of_a_file_can_be_read_back(reader: LatestReader) -> None:
    assert json.loads(reader.last_good("one.yaml")["one.yaml"]) == {"name": "one", "note": "ü"}
    assert reader.last_good("two.yaml") == {}
    assert list(reader.last_good(None)) == ["one.yaml"]


def test_a_write_that_fails_writes_nothing_and_can_be_repeated(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    too_large = replace(LLAMA, size_bytes=2**70)
    with pytest.raises(TypeError, match="64-bit"):
        writer.write(of_one(listed(10.0, PHI), listed(15.0, too_large)))
    assert spans(connection) == []
    writer.write(of_one(listed(15.0, PHI)))
    assert spans(connection) == [("phi3:mini", 15, None)]


def test_a_missing_database_is_a_store_error_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    reader = LatestReader(path)
    with pytest.raises(StoreError):
        reader.version()
    migrate(path)
    assert reader.snapshot().latest == {}
    reader.close()


def test_a_registry_that_is_not_whole_removes_nobody(
    writer: SampleWriter, connection: sqlite3.Connection
) -> None:
    writer.write([Registry(loaded_at=20.0, is_whole=False)])
    assert connection.execute("SELECT name, removed_at_ms FROM machine").fetchall() == [("one", None)]


DISK = Library("one", f"{URL}api/tags", 50.0, (StoredModel("llama3.1:70b", "d1", 40), StoredModel("bare")))


def test_what_is_on_disk_is_read_as_it_was_written(connection: sqlite3.Connection, path: Path) -> None:
    writer, reader = open_samples(connection), LatestReader(path)
    writer.write([REGISTRY, DISK])
    assert reader.snapshot().libraries == {"one": DISK}
    assert reader.snapshot().libraries["one"] is reader.snapshot().libraries["one"]
    newer = replace(DISK, at=60.0, models=())
    writer.write([newer])
    assert reader.snapshot().libraries == {"one": newer}
    writer.write([Registry(loaded_at=70.0)])
    assert reader.snapshot().libraries == {}


def test_what_a_model_took_is_kept_by_digest_and_context(connection: sqlite3.Connection, path: Path) -> None:
    writer, reader = open_samples(connection), LatestReader(path)
    bare = LoadedModel("bare", None, 7, None, None)
    writer.write([REGISTRY, *of_one(listed(10.0, LLAMA, bare, LoadedModel("unknown")))])
    writer.write(of_one(listed(11.0)))
    writer.write(of_one(listed(12.0, replace(LLAMA, size_bytes=50), replace(LLAMA, context_length=16384))))
    assert set(reader.snapshot().sizes) == {
        ModelSize("bare", None, None, 7, None, 10.0),
        ModelSize("llama3.1:70b", "d1", 8192, 50, 42, 12.0),
        ModelSize("llama3.1:70b", "d1", 16384, 42, 42, 12.0),
    }


def test_it_is_known_since_when_a_model_has_been_held(connection: sqlite3.Connection, path: Path) -> None:
    writer, reader = open_samples(connection), LatestReader(path)
    writer.write([REGISTRY, *of_one(listed(10.0, LLAMA))])
    writer.write(of_one(listed(15.0, LLAMA, PHI)))
    assert reader.snapshot().held_since == {"one": {"llama3.1:70b": 10.0, "phi3:mini": 15.0}}
    writer.write(of_one(listed(20.0, PHI)))
    assert reader.snapshot().held_since == {"one": {"phi3:mini": 15.0}}


def test_a_poll_that_has_not_changed_is_not_read_anew(connection: sqlite3.Connection, path: Path) -> None:
    writer, reader = open_samples(connection), LatestReader(path)
    writer.write([REGISTRY, polled(Endpoint.SIDECAR, 10.0, HOST), listed(10.0, LLAMA)])
    before = reader.snapshot().latest["one"]
    writer.write([listed(11.0, LLAMA)])
    after = reader.snapshot().latest["one"]
    assert after[Endpoint.SIDECAR] is before[Endpoint.SIDECAR]
    assert after[Endpoint.OLLAMA] is not before[Endpoint.OLLAMA]
    assert after[Endpoint.OLLAMA].polled_at == 11.0


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
    }
