"""Real engines are tested without leaving anything in them."""

import time
from pathlib import Path

import pytest

from machines_server.core.sample import HostSample
from machines_server.store.promql.probe import count_recent, try_writing
from machines_server.store.promql.writer import HistoryWriter
from tests.fakes import wait_until
from tests.store.polls import answered, sample
from tests.store.promql.engines import MAKERS


@pytest.mark.parametrize("name", MAKERS)
def test_an_engine_takes_a_write_without_samples_and_counts_machines(name: str, tmp_path: Path) -> None:
    with MAKERS[name](tmp_path / name) as engine:
        try_writing(engine.write_url)
        assert count_recent(engine.url, "lab") == 0
        assert engine.labels('{__name__!=""}') == []
        writer = HistoryWriter(engine.write_url)
        writer.put(sample(answered(time.time() - 5, HostSample(cpu_percent=1.5))), "lab")
        assert writer.close()
        engine.flush()
        wait_until(lambda: count_recent(engine.url, "lab") == 1)
        assert count_recent(engine.url, "elsewhere") == 0
