"""What docs/cluster.md tells operators about engines works."""

import re
import shlex
import time
from pathlib import Path

import pytest

from machines_server.core.past.metrics import METRICS
from machines_server.core.past.rollup import fold
from machines_server.core.sample import HostSample
from machines_server.store.promql.batches import QueueLimits
from machines_server.store.promql.names import GPU_INFO, VRAM_OF_MODEL
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.promql.writer import HistoryWriter
from machines_server.store.values import SeriesKey
from tests.fakes import wait_until
from tests.readme import page
from tests.store.polls import LLAMA, answered, listed, sample
from tests.store.promql.engines import Engine
from tests.tools import tool

PAGE = page("cluster.md")
COMMANDS = {
    shlex.split(line)[0]: shlex.split(line)[1:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
}
CPU = METRICS["cpu_percent"]


def engine(program: str, folder: Path, **replaced: str) -> Engine:
    """The page's command for a program (a path), with a port and folders of its own."""
    words = COMMANDS[Path(program).name]
    folder.mkdir()
    (config,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "prometheus.yml").write_text(config)
    for old, new in {r"127\.0\.0\.1:(8428|9090|8429)$": "127.0.0.1:{port}", **replaced}.items():
        words = [re.sub(old, new, word) for word in words]
    words = [re.sub(r"=(history|unsent|prometheus\.yml)$", r"={folder}/\1", word) for word in words]
    return Engine(folder, program, *words)


@pytest.mark.parametrize("program", ["victoria-metrics", "prometheus"])
def test_an_engine_as_the_page_runs_it_keeps_exact_history(tmp_path: Path, program: str) -> None:
    to_s = int(time.time()) // 60 * 60
    with engine(tool(program), tmp_path / "engine") as found:
        writer, other = HistoryWriter(found.write_url), HistoryWriter(found.write_url)
        for at in range(to_s - 300, to_s, 10):
            writer.put(sample(answered(at, HostSample(cpu_percent=at % 7))))
        assert writer.close()
        other.put(sample(answered(to_s - 295, HostSample(cpu_percent=50))))  # it was handed over late
        other.put(sample(answered(to_s - 10, HostSample(cpu_percent=(to_s - 10) % 7))))  # sent again
        assert other.close()
        found.flush()
        series = PromqlSeries(found.url)
        (points,) = series.series([SeriesKey("one", CPU)], to_s - 300, to_s, 60)
        series.close()
        values = {at: 1000 * (at % 7) for at in range(to_s - 300, to_s, 10)} | {to_s - 295: 50_000}
        assert [at for at, _ in points] == [to_s - 300 + at for at in range(0, 300, 60)]
        for start, found_fold in points:
            assert found_fold == fold(value for at, value in values.items() if 0 <= at - start < 60)


def test_a_vmagent_as_the_page_runs_it_keeps_samples_while_the_engine_is_away(tmp_path: Path) -> None:
    with engine(tool("victoria-metrics"), tmp_path / "engine") as behind:
        write_url = {r"=http://127\.0\.0\.1:8428/": f"=http://127.0.0.1:{behind.port}/"}
        with engine(tool("vmagent"), tmp_path / "agent", **write_url) as agent:
            behind.__exit__(None, None, None)
            writer, now = HistoryWriter(agent.write_url), time.time() - 60
            writer.put(sample(answered(now, HostSample(cpu_percent=5))))
            wait_until(lambda: writer.counts().sent > 0)
            assert writer.fault() is None
            assert writer.close()
            behind.__enter__()

            def arrived() -> bool:
                behind.flush()
                return len(behind.samples("machines_cpu_percent", now + 30, 600)) == 1

            wait_until(arrived)


def test_the_questions_of_the_page_are_answered(tmp_path: Path) -> None:
    (block,) = re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
    questions = [line for line in block.splitlines() if not line.startswith("#")]
    with engine(tool("prometheus"), tmp_path / "engine") as found:
        writer, now = HistoryWriter(found.write_url), time.time()
        for at in (now - 2, now - 1):
            writer.put(sample(answered(at), listed(at, LLAMA)))
        writer.put(sample(listed(now)))
        assert writer.close()
        (used,) = found.get("query", query=questions[0])["result"]
        assert (used["metric"], used["value"][1]) == ({"model": "card"}, "18")
        assert found.get("query", query=questions[1])["result"] == []
        assert found.get("query", query=questions[1].replace("< 0.9", "> 0.9"))["result"] != []


def test_the_page_names_the_limits_and_the_series() -> None:
    assert QueueLimits() == (20_000_000, 256 * 2**20)
    assert "20 million samples or 256 MiB" in PAGE
    for name in (GPU_INFO, VRAM_OF_MODEL):
        assert f"`{name}`" in PAGE
