"""Shared by the tests of services."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from machines_server.core.machine import Registry
from machines_server.inventory.machine_file import parse_machine
from machines_server.process.compose import make_services
from machines_server.settings import load_settings
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention
from tests.services.polled import TEXT, Polled


@pytest.fixture
def polled(tmp_path: Path) -> Iterator[Polled]:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "one.yaml").write_text(TEXT)
    settings, _ = load_settings(
        {"MACHINES_DIR": str(tmp_path / "machines"), "MACHINES_DATA_DIR": str(tmp_path / "var")}
    )
    migrate(settings.telemetry_db)
    machine = parse_machine(TEXT.encode(), "one.yaml").machine
    assert machine
    lock = PollerLock(settings.poller_lock, settings.dir)
    assert lock.acquire()
    with closing(open_writer(settings.telemetry_db)) as connection:
        writer = SampleWriter(connection, 12, Rollups(connection, Retention(3600, 3600, 3600)))
        writer.write([Registry((machine,), loaded_at=time.time())])
        polled = Polled(make_services(settings), writer, machine, lock)
        polled.poll(1)
        polled.end_cycle()
        yield polled
    lock.release()
