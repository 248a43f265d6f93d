"""Shared by the tests of advice and leases over HTTP."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from machines_server.core.machine import Registry
from machines_server.core.sample import (
    Cycle,
    GpuSample,
    HostSample,
    PollResult,
    RuntimeState,
    State,
)
from machines_server.inventory.machine_file import parse_machine
from machines_server.process.compose import make_app
from machines_server.settings import Settings, load_settings
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention
from tests.web.one_machine import GIB, LLAMA, TEXT


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Those of a server that knows one machine, which holds the model and has 10 GiB free."""
    with polled(tmp_path, {"one": TEXT}) as settings:
        yield settings


@contextmanager
def polled(tmp_path: Path, files: Mapping[str, str]) -> Iterator[Settings]:
    """The settings of a server that knows machines by their files, all of which answered alike just now."""
    (tmp_path / "machines").mkdir()
    for name, text in files.items():
        (tmp_path / "machines" / f"{name}.yaml").write_text(text)
    settings, _ = load_settings(
        {"MACHINES_DIR": str(tmp_path / "machines"), "MACHINES_DATA_DIR": str(tmp_path / "var")}
    )
    migrate(settings.telemetry_db)
    connection = open_writer(settings.telemetry_db)
    parsed = [parse_machine(text.encode(), f"{name}.yaml").machine for name, text in files.items()]
    machines = [machine for machine in parsed if machine]
    now = time.time()
    gpu = GpuSample(0, "GPU-a", None, "dedicated", 24 * GIB, 14 * GIB, 10 * GIB)
    answers = {
        "sidecar": RuntimeState(host=HostSample(gpu=(gpu,))),
        "ollama": RuntimeState(models=(LLAMA,)),
    }
    retention = Retention(raw_s=3600, minute_s=3600, hour_s=3600)
    SampleWriter(connection, 12, Rollups(connection, retention)).write(
        [
            Registry(tuple(machines), loaded_at=now),
            *(
                PollResult(machine.name, machine.endpoints[one], State.OK, now, 0.01, None, answer)
                for machine in machines
                for one, answer in answers.items()
            ),
            Cycle(now - 0.1, now, 5, 2),
        ]
    )
    lock = PollerLock(settings.poller_lock, settings.dir)
    assert lock.acquire()
    yield settings
    lock.release()
    connection.close()


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    """A client of that server."""
    return make_app(settings).test_client()
