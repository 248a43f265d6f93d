"""The past of one server, copied into a cluster: the same answers, even after interruptions."""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from machines_server.copying.copy import Destination, copy_past
from machines_server.copying.engine import EngineWriter
from machines_server.copying.progress import Progress, Reached
from machines_server.core.access import Access
from machines_server.core.past.metrics import METRICS
from machines_server.errors import StoreError
from machines_server.store.api import Past
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.past import PostgresPast
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.promql.writer import FIRST_PAUSE_S
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.past import PastReader
from machines_server.store.values import SeriesKey
from tests.cluster.a_past import CARDS, DAY, END, GONE, HOUR, KEYS, MINUTES_FROM, ONE, RAW_FROM, START, APast
from tests.fakes import wait_until
from tests.ports import free_port
from tests.postgres import Postgres
from tests.running import clean_environment, command
from tests.store.promql.engines import MAKERS, Engine, prometheus, victoria_metrics
from tests.terminal import in_terminal
from tests.warm import Forked, warm

FIRST_END = END - HOUR
"""Until then the first of two copies of a server that still runs was made."""


class Cluster:
    """A database and an engine, and what they know of the past."""

    def __init__(self, url: str, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.settings = {
            "MACHINES_DATABASE_URL": url,
            "MACHINES_REMOTE_WRITE_URL": engine.write_url,
            "MACHINES_QUERY_URL": engine.url,
            "MACHINES_SITE": "lab",
            "MACHINES_DATA_DIR": str(folder),
        }
        self.database = Database(url)
        self.past = PostgresPast(self.database, "lab", PromqlSeries(engine.url, site="lab", timeout_s=60))

    def copy(self, source: Path, *words: str) -> str:
        """What the command prints, which must succeed."""
        done = command("copy", "--to-cluster", "--from", str(source), *words, **self.settings)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        self.engine.flush()
        return done.stdout

    def start(self, source: Path) -> Forked:
        """The command, while it runs."""
        words = ["copy", "--to-cluster", "--from", str(source)]
        log = self.folder / "copy.log"
        log.touch()
        return warm().start(words, clean_environment(**self.settings), [os.devnull, str(log), str(log)])

    def rows(self, statement: str) -> list[Any]:
        with self.database.transaction() as connection:
            return connection.execute(statement.encode()).fetchall()

    def close(self) -> None:
        self.past.close()
        self.database.close()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy that was made an hour before the server ended, and what it left."""
    folder = tmp_path_factory.mktemp("source")
    with closing(APast(folder / "telemetry.db")) as past:
        past.write_until(FIRST_END)
        assert command("backup", str(folder / "first.db"), MACHINES_DATA_DIR=str(folder)).returncode == 0
        past.write_until(END)
    return folder / "first.db", folder / "telemetry.db"


@pytest.fixture(scope="module")
def source(sources: tuple[Path, Path]) -> Path:
    return sources[1]


@pytest.fixture(params=sorted(MAKERS))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with MAKERS[request.param](tmp_path / "engine") as found:
        yield found


@pytest.fixture
def cluster(engine: Engine, tmp_path: Path, postgres: Postgres) -> Iterator[Cluster]:
    with closing(Cluster(postgres.new_database(), engine, tmp_path)) as made:
        yield made


@pytest.fixture
def of_victoria(tmp_path: Path, postgres: Postgres) -> Iterator[Cluster]:
    """For what does not depend on the engine."""
    with (
        victoria_metrics(tmp_path / "engine") as engine,
        closing(Cluster(postgres.new_database(), engine, tmp_path)) as made,
    ):
        yield made


def spelled(text: str) -> str:
    """As PostgreSQL keeps it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def told_of(past: Past) -> dict[str, Any]:
    """All that a past answers beside measurements."""
    events, before = list[Any](), None
    while True:
        page = past.events([], [], 0, END + DAY, 150, before=before)
        events += [(one.at, one.machine, one.type, one.detail) for one in page.events]
        if not page.is_truncated:
            break
        before = page.events[-1].id
    spans = {
        (one.machine, spelled(one.model), one.last_seen, one.resident_s)
        for from_s, to_s in ((START, END), (START + 5000, END - 5000))
        for one in past.residency(from_s, to_s)
    }
    return {
        "events": events,
        "of one": [one.type for one in past.events([ONE], ["online"], START, END, 1000).events],
        "statuses": sorted((one.machine, one.at, one.status) for one in past.statuses(None, START, END)),
        "of gone": [(one.at, one.status) for one in past.statuses(GONE, START, END)],
        "spans": [(round(a, 3), round(b, 3)) for a, b in past.poll_spans(START, END + DAY)],
        "residency": spans,
        "machines": {name: past.machine(name) for name in (ONE, GONE, GONE.upper())},
        "then": past.machine_names(START, START + HOUR),
        "now": past.machine_names(END, END + 1),
    }


def assert_same(cluster: Cluster, source: Path) -> None:
    """The cluster answers whatever the source can answer, and the same."""
    with closing(PastReader(source)) as past:
        ours, theirs = told_of(past), told_of(cluster.past)
        for what, expected in ours.items():
            assert theirs[what] == expected, what
        assert len(ours["events"]) > 200
        assert len(ours["residency"]) > 5
        for from_s, to_s, step_s in (
            (START // DAY * DAY, END + HOUR, HOUR),
            (START // DAY * DAY, START // DAY * DAY + 3 * DAY, DAY),
            (MINUTES_FROM, END + HOUR, 60),
            (MINUTES_FROM, END + HOUR, 1800),
            (RAW_FROM, RAW_FROM + HOUR, 10),
            (END - HOUR, END, 1),
        ):
            expected = past.series(KEYS, from_s, to_s, step_s)
            found = cluster.past.series(KEYS, from_s, to_s, step_s)
            for key, points, right in zip(KEYS, found, expected, strict=True):
                assert points == right, (key.machine, key.metric.name, step_s)
            assert sum(map(bool, expected)) > 10


def test_a_cluster_answers_what_the_server_has_answered(cluster: Cluster, source: Path) -> None:
    told = cluster.copy(source)
    assert told.startswith(f"copied {source}: 2 machines, ")
    assert "left out" not in told
    assert_same(cluster, source)
    assert cluster.rows("SELECT count(*) FROM library") == [(1,)]
    assert cluster.rows("SELECT count(*) FROM model_size") == [(4,)]
    assert cluster.rows("SELECT count(*) FROM model_span WHERE last_seen_at_ms IS NULL") == [(0,)]
    # Where only hours are kept, a finer question finds them at their beginning, and nothing between.
    (points,) = cluster.past.series([SeriesKey(ONE, METRICS["up"])], START + HOUR, START + 3 * HOUR, 60)
    assert [at % HOUR for at, _ in points] == [0, 0]
    assert all(fold.n > 5 for _, fold in points)


def test_a_copy_that_is_killed_goes_on_where_it_was(cluster: Cluster, source: Path) -> None:
    for reached in (
        "SELECT 1 FROM event LIMIT 1",
        "SELECT 1 FROM copied WHERE part = 'measurements' AND until > 0",
        f"SELECT 1 FROM copied WHERE part = 'measurements' AND until > {MINUTES_FROM * 1000}",
    ):
        started = cluster.start(source)
        wait_until(lambda reached=reached: cluster.rows(reached))  # type: ignore[misc]  # it takes no argument
        started.kill()
        assert started.wait(60) == -signal.SIGKILL
    cluster.copy(source)
    # The engine has taken what the database does not know of yet.
    cluster.rows("UPDATE copied SET until = until - 900000 WHERE part = 'measurements' RETURNING 1")
    assert " 0 rows and " in cluster.copy(source)
    assert_same(cluster, source)


def test_a_later_copy_of_a_running_server_adds_what_is_new(
    cluster: Cluster, sources: tuple[Path, Path]
) -> None:
    first, last = sources
    cluster.copy(first)
    cluster.copy(last)
    assert_same(cluster, last)
    assert cluster.copy(last) == f"all of {last} has been copied already\n"


def test_what_the_cluster_knows_of_a_machine_stays(of_victoria: Cluster, source: Path) -> None:
    of_victoria.rows("INSERT INTO shard (site, number) SELECT 'lab', generate_series(0, 255) RETURNING 1")
    of_victoria.rows(
        "INSERT INTO machine (shard_id, site, key, name, names, file, declared, added_at_ms)"
        " SELECT id, 'lab', 'gone-2', 'Gone-2', ARRAY['Gone-2'], 'new.yaml', '{}', 9000000000000"
        " FROM shard LIMIT 1"
        " RETURNING 1"
    )
    of_victoria.copy(source)
    rows = of_victoria.rows("SELECT name, file, removed_at_ms FROM machine WHERE key = 'gone-2'")
    assert rows == [("Gone-2", "new.yaml", None)]
    assert of_victoria.past.machine_names(START, START + 1) == [ONE, "Gone-2"]
    (points,) = of_victoria.past.series([SeriesKey("Gone-2", METRICS["up"])], START, START + DAY, HOUR)
    assert points


def test_hours_from_before_there_were_ten_minutes_are_copied(of_victoria: Cluster, source: Path) -> None:
    older = of_victoria.folder / "older.db"
    shutil.copy(source, older)
    with closing(sqlite3.connect(older)) as connection:
        assert connection.execute("DELETE FROM retention WHERE tier = '10m'").rowcount == 1
        connection.commit()
    of_victoria.copy(older)
    assert_same(of_victoria, source)


def test_an_engine_that_is_away_is_waited_for_and_then_said() -> None:
    with closing(EngineWriter(f"http://127.0.0.1:{free_port()}/write", Access, print, give_up_s=1)) as writer:
        writer.add(b"", b"", 1)
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not take samples: connection refused"):
            writer.flush()
        assert time.monotonic() - began > FIRST_PAUSE_S


def test_two_processes_cannot_copy_the_same_rows(of_victoria: Cluster) -> None:
    progress = Progress(of_victoria.database, "lab", "source")
    before = progress.begun("events")
    with of_victoria.database.transaction() as connection:
        progress.advance(connection, "events", before, Reached(500, {"a": 1}))
    assert progress.begun("events") == Reached(500, {"a": 1})
    with (
        pytest.raises(StoreError, match="another process is copying"),
        of_victoria.database.transaction() as connection,
    ):
        progress.advance(connection, "events", before, Reached(500, {}))


def test_after_ctrl_c_the_command_goes_on_and_ends(of_victoria: Cluster, source: Path) -> None:
    started = of_victoria.start(source)
    wait_until(lambda: of_victoria.rows("SELECT 1 FROM event LIMIT 1"))
    started.send_signal(signal.SIGINT)
    code = started.wait(60)
    log = (of_victoria.folder / "copy.log").read_text()
    assert code == 130, log
    assert log == "Interrupted. What has been copied stays: run the same command again to continue.\n"
    done = in_terminal(of_victoria.settings, "copy", "--to-cluster", "--from", str(source))
    assert done.returncode == 0, done.text
    assert "\rmeasurements: " in done.text
    assert " samples/s" in done.text
    assert of_victoria.copy(source) == f"all of {source} has been copied already\n"
    assert of_victoria.copy(source, "--json") == '{"machines": 2, "rows": 0, "samples": 0, "left_out": 0}\n'


def test_an_engine_with_newer_samples_says_what_to_do(
    tmp_path: Path, postgres: Postgres, source: Path
) -> None:
    with (
        prometheus(tmp_path / "engine", "") as engine,
        closing(Cluster(postgres.new_database(), engine, tmp_path)) as cluster,
    ):
        cluster.copy(source)
        cluster.rows("DELETE FROM copied WHERE part = 'measurements' RETURNING 1")
        done = command("copy", "--to-cluster", "--from", str(source), **cluster.settings)
        assert done.returncode == 1
        assert "copy the past before the servers of the cluster are started" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_an_engine_that_forgets_what_it_takes_is_noticed(tmp_path: Path, postgres: Postgres) -> None:
    path = tmp_path / "telemetry.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO machine VALUES (1, 'one', 'one.yaml', '{}', 1, NULL)")
        samples = "INSERT INTO sample (machine_id, at_ms, up, poll_s) VALUES (1, ?, 1, 10)"
        connection.executemany(samples, [(1000 * (END - 90 * DAY),), (1000 * END,)])
        connection.commit()
    with (
        victoria_metrics(tmp_path / "engine", "-retentionPeriod=1") as engine,
        closing(Cluster(postgres.new_database(), engine, tmp_path)) as cluster,
        closing(PromqlSeries(engine.url, site="lab")) as series,
    ):
        to = Destination(cluster.database, "lab", engine.write_url, Access, series)
        with pytest.raises(StoreError, match="does not return them: make it keep them for longer"):
            copy_past(path, to, lambda _: None, check_s=1)
        assert copy_past(path, to, lambda _: None, since=END - DAY).samples == 2
        engine.flush()
        (points,) = cluster.past.series([SeriesKey("one", METRICS["up"])], END - DAY, END + HOUR, HOUR)
        assert [at for at, _ in points] == [END]


def test_what_cannot_be_copied_is_one_line(tmp_path: Path, source: Path) -> None:
    def says(status: int, *words: str, **settings: str) -> str:
        environment = {"MACHINES_DATA_DIR": str(tmp_path), **settings}
        done = command("copy", "--to-cluster", *words, **environment)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    cluster = {
        "MACHINES_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none",
        "MACHINES_REMOTE_WRITE_URL": "http://127.0.0.1:1/api/v1/write",
        "MACHINES_QUERY_URL": "http://127.0.0.1:1",
    }
    assert "needs MACHINES_DATABASE_URL, MACHINES_REMOTE_WRITE_URL" in says(2)
    assert f"{tmp_path}/telemetry.db: there is no such file" in says(1, **cluster)
    assert "PostgreSQL cannot be reached" in says(1, "--from", str(source), **cluster)
    (tmp_path / "cut.db").write_bytes(source.read_bytes()[:5000])
    assert "copy a backup of it" in says(1, "--from", str(tmp_path / "cut.db"), **cluster)
    for name, change, expected in (
        ("old.db", "DELETE FROM schema_migrations WHERE version = 12", "machines-server migrate"),
        ("new.db", "INSERT INTO schema_migrations VALUES (99, '0099_x.sql', '', '')", "is newer than this"),
    ):
        shutil.copy(source, tmp_path / name)
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute(change)
            connection.commit()
        assert expected in says(1, "--from", str(tmp_path / name), **cluster)
    assert len(CARDS) == 2
