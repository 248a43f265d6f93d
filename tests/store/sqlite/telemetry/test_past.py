"""The past, written through the same way as the present: exact at any scale, and nothing lost."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS, METRICS
from machines_server.core.past.rollup import TIER_STEPS_S, Fold, fold
from machines_server.core.sample import State
from machines_server.store.sqlite.backup import backup
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.values import Retention, SeriesKey
from tests.store.sqlite.older import as_version
from tests.store.sqlite.telemetry.database import CPU, KEPT, START, VRAM, Database


def folded(values: Mapping[int, int], from_s: int, step_s: int) -> list[tuple[int, Fold]]:
    """The buckets from `from_s` on that have values, by their moments."""
    kept: dict[int, list[int]] = {}
    for at, value in sorted(values.items()):
        kept.setdefault(at // step_s * step_s, []).append(value)
    return [(at, fold(some)) for at, some in kept.items() if at >= from_s]


def test_every_metric_has_its_columns_in_every_tier(database: Database) -> None:
    for table, metrics in (("sample", MACHINE_METRICS), ("gpu_sample", GPU_METRICS)):
        for tier in TIER_STEPS_S:
            columns = [row[1] for row in database.rows(f"PRAGMA table_info({table}_{tier})")][2:]
            expected = {f"{one.column}_{part}" for one in metrics for part in ("n", "sum", "min", "max")}
            assert expected - {*columns} == set(), f"a new migration must add them to {table}_{tier}"
            assert {*columns} == expected


def test_a_range_is_answered_the_same_from_samples_and_from_rollups(database: Database) -> None:
    for number in range(0, 3 * 3600, 5):
        database.add(START + number, None if number % 35 == 0 else number % 97 / 10)
    steps = (60, 600, 1800, 3600, 7200)
    before = {step: database.series(START, START + 3 * 3600, step) for step in steps}
    database.roll(START + 3 * 3600 + 60)
    counted = (
        "SELECT (SELECT count(*) FROM sample_1m), (SELECT count(*) FROM sample_10m), count(*) FROM sample_1h"
    )
    assert database.rows(counted) == [(180, 18, 3)]
    assert database.rollups_that_differ() == []
    for table, coarsest_s in (("sample", 60), ("sample_1m", 600), ("sample_10m", 3600)):
        database.connection.execute(f"DELETE FROM {table}")
        assert all(
            database.series(START, START + 3 * 3600, step) == before[step]
            for step in steps
            if step >= coarsest_s
        )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4 * 3600), st.integers(0, 1000)), max_size=60), st.data())
def test_whatever_is_rolled_up_when_the_answer_is_exact(
    samples: list[tuple[int, int]], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        database = Database(Path(folder) / "telemetry.db")
        for at, value in samples:  # in any order: late ones too
            database.add(START + at, value / 10)
            if data.draw(st.integers(0, 9)) == 0:
                database.roll(START + data.draw(st.integers(0, 5 * 3600)))
        step = data.draw(st.sampled_from([30, 60, 300, 600, 1800, 3600, 7200]))
        values = {START + at: value * 100 for at, value in dict(samples).items()}
        low, high = START // step * step, (START + 4 * 3600) // step * step + step
        assert database.series(low, high, step) == folded(values, low, step)
        assert database.rollups_that_differ() == []
        database.connection.close()


def test_rollups_catch_up_after_days(database: Database) -> None:
    for day in range(3):
        database.add(START + day * 86_400)
    database.roll(START + 10 * 86_400)
    assert database.rows("SELECT count(*) FROM sample_1h") == [(3,)]
    assert database.rows("SELECT count(*) FROM rollup_due") == [(0,)]


def test_what_is_older_than_its_tier_is_kept_goes_and_its_rollups_stay(database: Database) -> None:
    database.roll(START, 0)
    for hour in range(72):
        database.add(START + hour * 3600)
    database.roll(START + 72 * 3600, 72 * 3600)
    assert database.rows("SELECT min(at_ms) / 1000 FROM sample") == [(START + 24 * 3600,)]
    assert database.rows("SELECT min(at_ms) / 1000 FROM gpu_sample") == [(START + 24 * 3600,)]
    assert database.rows("SELECT count(*) FROM sample_1m") == [(72,)]
    database.roll(START + 32 * 86_400, 32 * 86_400)
    for tier in ("1m", "10m"):
        assert database.rows(f"SELECT min(at_s) FROM sample_{tier}") == [(START + 2 * 86_400,)]
        assert database.rows(f"SELECT min(at_s) FROM gpu_sample_{tier}") == [(START + 2 * 86_400,)]
    assert len(database.series(START, START + 72 * 3600, 3600)) == 72


def test_nothing_is_deleted_before_the_coarser_is_made_from_it(tmp_path: Path) -> None:
    in_advance = Retention(raw_s=-7200, minute_s=-7200, hour_s=1e9)
    with closing(PastReader(tmp_path / "telemetry.db")) as reader:
        database = Database(tmp_path / "telemetry.db", in_advance)
        database.reader = reader
        tables = ("sample", "sample_1m", "sample_10m", "sample_1h")
        found = []
        database.add(START)
        for after_s in (0, 60, 600, 3600):
            database.roll(START + after_s, 3600)
            found.append(tuple(database.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables))
            assert database.series(START, START + 3600, 3600) == [(START, Fold(1, 1000, 1000, 1000))]
        assert found == [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
        database.connection.close()


def test_a_past_without_ten_minutes_is_answered_the_same_while_they_are_made(tmp_path: Path) -> None:
    kept = Retention(raw_s=6 * 3600, minute_s=24 * 3600, hour_s=730 * 86_400)
    day, end = START + 86_400, START + 48 * 3600 + 1500  # in the middle of ten minutes
    before = Database(tmp_path / "before.db", kept)
    before.roll(START, 0)
    cpu = {at: at % 97 * 100 for at in range(START, end, 100)}
    vram = {at: at % 89 * 2**20 for at in cpu}
    for at in cpu:
        before.add(at, cpu[at] / 1000, vram=vram[at])
        if at % 3600 == 0:
            before.roll(at, 3600)
    before.roll(end, 3600)
    assert before.rows("SELECT min(at_s) FROM sample_1m") == [(day,)]
    # It was ended while it deleted the next hour.
    before.connection.execute(f"DELETE FROM sample_1m WHERE at_s < {day + 1800}")
    before.connection.execute(f"UPDATE retention SET at_s = {day + 3600} WHERE tier = '1m'")
    froms = {50: START + 42 * 3600, 600: day + 3600, 1800: day + 3600, 3600: START, 7200: START}

    def answers(database: Database) -> list[Any]:
        """Of a host and of its GPU, as far back as each step can be asked for."""
        return [
            database.reader.series(
                [SeriesKey("one", CPU), SeriesKey("one", VRAM, "GPU-a")], from_s, START + 50 * 3600, step
            )
            for step, from_s in froms.items()
        ]

    expected = [[folded(values, from_s, step) for values in (cpu, vram)] for step, from_s in froms.items()]
    as_version(4, before.path, tmp_path / "telemetry.db")
    database = Database(tmp_path / "telemetry.db", kept)
    assert database.rows("SELECT count(*) FROM sample_10m") == [(0,)]
    assert answers(before) == expected
    assert answers(database) == expected
    rollups, steps = Rollups(database.connection, kept, step_s=-1), 0  # one bucket in a step
    while rollups.step(end, 0):
        steps += 1
        if steps % 7 == 0:
            assert answers(database) == expected
    assert steps > 23 * 6
    for tier in TIER_STEPS_S:
        for table in (f"sample_{tier}", f"gpu_sample_{tier}"):
            sql = f"SELECT * FROM {table} WHERE at_s >= {day + 3600 if tier == '10m' else 0}"
            assert database.rows(sql) == before.rows(sql)
    assert database.rows("SELECT * FROM rollup_due") == before.rows("SELECT * FROM rollup_due")
    assert database.rollups_that_differ() == []
    database.connection.execute(f"DELETE FROM sample_1m WHERE at_s < {START + 48 * 3600}")
    assert answers(database)[1:] == expected[1:]
    for one in (before, database):
        one.reader.close()
        one.connection.close()


def test_a_clock_that_leaps_forward_does_not_empty_the_database(database: Database) -> None:
    database.roll(START, 0)
    for hour in range(48):
        database.add(START + hour * 3600)
        database.roll(START + hour * 3600, 3600)
    year = 365 * 86_400
    for second in range(0, 600, 60):  # ten minutes of a wrong year
        database.add(START + 48 * 3600 + year + second)
        database.roll(START + 48 * 3600 + year + second, 60)
    assert database.rows(f"SELECT count(*) FROM sample WHERE at_ms < {(START + year) * 1000}") == [(48,)]
    database.add(START + 48 * 3600 + 660)
    database.roll(START + 49 * 3600, 60)
    assert len(database.series(START, START + 49 * 3600, 3600)) == 49


def test_the_clock_that_ages_samples_follows_in_steps_of_any_length(database: Database) -> None:
    database.roll(START, 0)
    for _ in range(400):
        database.rollups.step(START + 86_400, 0.1)
    assert database.rows("SELECT at_s FROM retention WHERE tier = 'clock'") == [(START + 160,)]


def test_what_happened_before_the_oldest_sample_is_deleted_but_not_what_stands(database: Database) -> None:
    database.roll(START, 0)
    for hour in range(6):  # it goes and comes each hour
        database.add(START + 3600 * hour, state=State.UNREACHABLE if hour % 2 else State.OK)
        stay = (f"m{hour}", START * 1000, None if hour == 5 else (START + 3600 * hour) * 1000)
        database.connection.execute(
            "INSERT INTO model_span (machine_id, model, first_seen_at_ms, last_seen_at_ms)"
            " VALUES (1, ?, ?, ?)",
            stay,
        )
        times = ((START + 3600 * hour) * 1000,) * 3
        database.connection.execute(
            "INSERT INTO poll_span (started_at_ms, cycle_started_at_ms, ended_at_ms, interval_s, timeout_s)"
            " VALUES (?, ?, ?, 5, 2)",
            times,
        )
    later = START + 3 * 3600 + KEPT.hour_s
    database.roll(int(later), KEPT.hour_s + 3 * 3600)
    assert database.rows("SELECT min(at_ms) / 1000, count(*) FROM event") == [(START + 3 * 3600, 3)]
    assert database.rows("SELECT model FROM model_span") == [("m3",), ("m4",), ("m5",)]
    assert database.rows("SELECT count(*) FROM poll_span") == [(3,)]
    database.roll(int(later) + 86_400, 2 * 86_400)
    assert database.rows("SELECT at_ms / 1000, type FROM event") == [(START + 5 * 3600, "offline")]
    assert database.rows("SELECT model FROM model_span") == [("m5",)]
    assert database.rows("SELECT count(*) FROM poll_span") == [(1,)]


def test_a_clock_that_is_set_back_neither_stops_the_recording_nor_doubles_a_bucket(
    database: Database,
) -> None:
    for second in range(0, 7200, 60):
        database.add(START + second, 1.0)
    database.roll(START + 7200)
    for second in range(3630, 7230, 60):
        database.add(START + second, 3.0)
    database.roll(START + 7300)
    assert database.rollups_that_differ() == []
    assert [found.n for _, found in database.series(START, START + 7200, 3600)] == [60, 120]


def test_a_step_of_maintenance_is_short_and_gives_space_back(database: Database) -> None:
    database.roll(START, 0)
    for minute in range(3000):
        database.add(START + minute * 60)
    database.roll(START + 3000 * 60, 0)
    size = database.rows("PRAGMA page_count")[0][0]
    database.rollups.step(START + 40 * 86_400, 40 * 86_400)
    database.roll(START + 40 * 86_400, 0)
    assert database.rows("SELECT count(*) FROM sample") == [(0,)]
    assert database.rows("PRAGMA page_count")[0][0] <= size


def test_a_backup_taken_while_it_is_written_is_whole(database: Database, tmp_path: Path) -> None:
    for number in range(200):
        database.add(START + number)
    copy = tmp_path / "copy.db"
    database.connection.execute("BEGIN IMMEDIATE")
    database.connection.execute("DELETE FROM sample")
    backup(database.path, copy)
    database.connection.execute("ROLLBACK")
    with closing(sqlite3.connect(copy)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert opened.execute("SELECT count(*) FROM sample").fetchone() == (200,)
    assert [path.name for path in tmp_path.glob("*copy*")] == ["copy.db"]


def test_a_database_that_is_replaced_is_read_anew(database: Database, tmp_path: Path) -> None:
    backup(database.path, tmp_path / "before.db")
    database.add(START)
    assert len(database.series(START, START + 60, 60)) == 1
    database.connection.close()
    for name in ("telemetry.db-wal", "telemetry.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "before.db").rename(database.path)
    assert database.series(START, START + 60, 60) == []


def test_metrics_that_are_asked_for_together_are_answered_as_alone_from_several_tiers(
    database: Database,
) -> None:
    for number in range(0, 7200, 45):
        database.add(START + number, None if number % 90 else number / 100, vram=number * 2**20)
    database.roll(START + 3700)
    wanted = [
        SeriesKey("one", VRAM, "GPU-a"),
        SeriesKey("one", CPU),
        SeriesKey("one", METRICS["up"]),
        SeriesKey("one", METRICS["vram_free_gb"], "GPU-a"),
    ]
    for step in (50, 60, 2040, 7200):
        span = START // step * step, (START + 7200) // step * step + step
        together = database.reader.series(wanted, *span, step)
        assert together == [database.reader.series([one], *span, step)[0] for one in wanted]
        assert sum(found.n for _, found in together[1]) == 80
