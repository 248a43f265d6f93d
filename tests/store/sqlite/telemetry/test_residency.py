"""Stays of models are added up as they end, and the answer for any range is as if computed from all stays."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from machines_server.core.machine import Registry
from machines_server.core.sample import LoadedModel
from machines_server.store.sql.residency import add_stay, forget_residency
from machines_server.store.sqlite.connection import transaction
from machines_server.store.sqlite.migrate import known_migrations, migrate
from machines_server.store.sqlite.telemetry.past import MAX_RESIDENCIES
from machines_server.store.sqlite.telemetry.residency import READ_RESIDENCY
from machines_server.store.values import Residency
from tests.seen import say
from tests.store.polls import listed, of_one
from tests.store.sqlite.older import as_version
from tests.store.sqlite.telemetry.database import START, Database

FROM_ALL_STAYS = """
WITH stay AS (
    SELECT name, model, first_seen_at_ms AS began,
           coalesce(last_seen_at_ms, answered_at_ms, first_seen_at_ms) AS ended
    FROM model_span JOIN machine ON machine.id = model_span.machine_id
    LEFT JOIN latest ON latest.machine_id = machine.id AND endpoint = 'ollama'
)
SELECT name, model, max(ended) / 1000.0, sum(max(0, min(ended, :to) - max(began, :from))) / 1000.0
FROM stay GROUP BY name, model"""
BEFORE_RESIDENCY = 5
ADD = "INSERT INTO model_span (machine_id, model, first_seen_at_ms, last_seen_at_ms) VALUES (1, ?, ?, ?)"
models = st.sampled_from(["a", "b"])
moments = st.integers(0, 200)


def from_all_stays(database: Database, from_s: float, to_s: float) -> set[Residency]:
    values = {"from": round(from_s * 1000), "to": round(to_s * 1000)}
    return {Residency(*row) for row in database.connection.execute(FROM_ALL_STAYS, values)}


def is_exact(database: Database, from_s: float, to_s: float) -> bool:
    return set(database.reader.residency(from_s, to_s)) == from_all_stays(database, from_s, to_s)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(moments, st.sets(models), st.integers(0, 1)), max_size=25),
    st.lists(st.tuples(moments, moments), min_size=1, max_size=5),
)
def test_any_range_is_answered_as_from_all_stays(
    seen: list[tuple[int, set[str], int]], ranges: list[tuple[int, int]]
) -> None:
    with TemporaryDirectory() as folder:
        database = Database(Path(folder) / "telemetry.db")
        for at, names, context in seen:  # in any order: the clock may be set back
            stays = (LoadedModel(name, name, 2**32, 2**32, 4096 + context) for name in sorted(names))
            database.writer.write(of_one(listed(START + at / 2, *stays)))
        for one, other in ranges:
            assert is_exact(database, START + min(one, other) / 2, START + max(one, other) / 2 + 0.001)
        database.writer.write([Registry(loaded_at=START + 300)])
        for one, other in ranges:
            assert is_exact(database, START + min(one, other) / 2, START + max(one, other) / 2 + 0.001)
        database.reader.close()
        database.connection.close()


stays = st.tuples(models, moments, st.integers(-3, 60) | st.none())


@settings(max_examples=25)
@given(
    st.lists(stays, max_size=20), st.lists(stays, max_size=5), st.tuples(moments, moments), st.integers(0, 9)
)
def test_stays_of_an_earlier_version_count_from_the_first_moment(
    old: list[tuple[str, int, int | None]],
    new: list[tuple[str, int, int | None]],
    within: tuple[int, int],
    steps: int,
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "telemetry.db"
        migrate(path, known_migrations()[:BEFORE_RESIDENCY])
        with closing(sqlite3.connect(path)) as before:
            before.execute(
                "INSERT INTO machine (name, file, declared, added_at_ms) VALUES ('one', 'f', '{}', 1)"
            )
            before.executemany(ADD, [rows_of(*one) for one in old])
            before.commit()
        database = Database(path)  # whose writer goes on with the stays that had not ended
        from_s, to_s = START + min(within), START + max(within) + 0.5
        assert is_exact(database, from_s, to_s)
        for number in range(steps):
            database.writer.write(
                of_one(listed(START + 250.0 + number, *(LoadedModel(one[0]) for one in new[number:])))
            )
            assert is_exact(database, from_s, to_s + 300)
            if number % 3 == 0:
                database.roll(int(START + 260))
                assert is_exact(database, from_s, to_s + 300)
        database.roll(int(START + 300))
        assert database.rows("SELECT count(*) FROM residency_due") == [(0,)]
        assert is_exact(database, from_s, to_s)
        database.reader.close()
        database.connection.close()


def rows_of(model: str, began: int, lasted: int | None) -> tuple[str, int, int | None]:
    began_ms = (START + began) * 1000
    return model, began_ms, None if lasted is None else began_ms + lasted * 1000


def test_an_old_past_is_added_up_in_short_steps_and_the_migration_reads_none_of_it(
    database: Database, tmp_path: Path
) -> None:
    count = 20_000
    rows = (("m", (START + 60 * number) * 1000, (START + 60 * number + 30) * 1000) for number in range(count))
    database.connection.execute("BEGIN")
    database.connection.executemany(ADD, rows)
    database.connection.execute("COMMIT")
    old = tmp_path / "old.db"
    as_version(BEFORE_RESIDENCY, database.path, old)
    began = time.monotonic()
    migrate(old)
    migrated_s = time.monotonic() - began
    of_old = Database(old)
    in_all, to_s = [Residency("one", "m", START + 60 * count - 30, 30 * count)], START + 60.0 * count
    assert of_old.reader.residency(START, to_s) == in_all
    steps, longest_s = 0, 0.0
    while of_old.rows("SELECT 1 FROM residency_due"):
        began = time.monotonic()
        of_old.rollups.step(START + 60 * count, 0)
        longest_s, steps = max(longest_s, time.monotonic() - began), steps + 1
        if steps % 20 == 1:
            assert of_old.reader.residency(START, to_s) == in_all
    say(f"{count} stays, migrated in {migrated_s:.3f} s, {steps} steps of up to {longest_s:.3f} s")
    assert steps > 5
    assert of_old.rows("SELECT count(*) FROM residency") == [(2 * count,)]
    assert of_old.reader.residency(START, to_s) == in_all
    of_old.reader.close()
    of_old.connection.close()


def test_a_range_costs_the_same_however_many_stays_it_has(database: Database) -> None:
    connection, read = database.connection, 0

    def count() -> int:
        nonlocal read
        read += 1
        return 0

    costs = []
    for stays_before, stays_after in ((0, 100), (100, 10_000)):
        with transaction(connection):
            for number in range(stays_before, stays_after):
                at_ms = (START + 20 * number) * 1000
                add_stay(connection, 1, "m", at_ms, at_ms + 5000)
        read = 0
        connection.set_progress_handler(count, 1)
        values = {"from": START * 1000, "to": (START + 20 * stays_after) * 1000, "limit": MAX_RESIDENCIES}
        ((*_, resident_s),) = connection.execute(READ_RESIDENCY, values)
        connection.set_progress_handler(None, 0)
        assert resident_s == 5 * stays_after
        costs.append(read)
    say(f"instructions of SQLite for 100 and for 10,000 stays: {costs}")
    assert costs[1] < 1.5 * costs[0]


def test_what_is_older_than_is_kept_is_forgotten_and_the_rest_counts_the_same(database: Database) -> None:
    connection = database.connection
    for number in range(100):
        at_ms = (START + 20 * number) * 1000
        add_stay(connection, 1, "stays", at_ms, at_ms + 5000)
        if number < 50:
            add_stay(connection, 1, "went", at_ms, at_ms + 5000)
    ranges = [(START + 1200, START + 1500), (START + 1403, START + 5000), (START + 1303.5, START + 1400.5)]
    before = [database.reader.residency(*one) for one in ranges]
    for _ in forget_residency(connection, (START + 1200) * 1000):
        pass
    (left,) = connection.execute("SELECT count(*) FROM residency").fetchone()
    assert left == 2 * 40 + 1
    after = [database.reader.residency(*one) for one in ranges]
    assert after == [[one for one in found if one.model == "stays"] for found in before]
    assert database.reader.residency(0, START + 2000)[0].resident_s == 5 * 40


def test_a_host_that_held_very_many_models_is_told_of_the_latest(database: Database) -> None:
    with transaction(database.connection):
        for number in range(MAX_RESIDENCIES + 10):
            add_stay(database.connection, 1, f"m{number}", START * 1000, START * 1000 + number)
    database.writer.write(of_one(listed(START + 60, LoadedModel("there"))))
    found = {one.model for one in database.reader.residency(START, START + 60)}
    assert len(found) == MAX_RESIDENCIES + 1
    assert "there" in found
    assert not found & {"m0", "m9"}
