"""Runs the peers as Debian packages them, with their defaults for everything measured."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.answers import address
from bench.table import answers, free_port, running, wait_until

NOT_HERE = "{} is not installed"


def is_there(*commands: str) -> bool:
    """Return whether all these commands are installed."""
    return all(shutil.which(command) for command in commands)


def scrape_config(count: int, ports: Iterable[int], interval_s: int, timeout_s: int) -> str:
    """A configuration with which Prometheus or VictoriaMetrics scrapes both endpoints of every host."""
    targets = [f"{address(number)}:{port}" for number in range(count) for port in ports]
    jobs = [{"job_name": "hosts", "static_configs": [{"targets": targets}]}]
    times = {"scrape_interval": f"{interval_s}s", "scrape_timeout": f"{timeout_s}s"}
    return json.dumps({"global": times, "scrape_configs": jobs})


@contextmanager
def prometheus(folder: Path, config: str = "") -> Iterator[tuple[int, int]]:
    """Run Prometheus with its store in `folder`; yields its process id and port."""
    port, file = free_port(), folder.with_suffix(".yml")
    file.write_text(config)
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, folder.with_suffix(".log"), **os.environ) as process:
        wait_until(answers(port, "/-/ready"), 30, "Prometheus is ready")
        yield process.pid, port


@contextmanager
def victoria_metrics(folder: Path, config: str) -> Iterator[tuple[int, int]]:
    """Run VictoriaMetrics with its store in `folder`; yields its process id and port."""
    port, file = free_port(), folder.with_suffix(".yml")
    file.write_text(config)
    command = [
        "victoria-metrics",
        f"-promscrape.config={file}",
        f"-storageDataPath={folder}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",  # otherwise its answers lack the last half minute
    ]
    with running(command, folder.with_suffix(".log"), **os.environ) as process:
        wait_until(answers(port, "/health"), 30, "VictoriaMetrics is ready")
        yield process.pid, port


@contextmanager
def node_exporter(folder: Path) -> Iterator[tuple[int, int]]:
    """Run node_exporter on this machine; yields its process id and port."""
    port = free_port()
    command = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, folder / "node_exporter.log", **os.environ) as process:
        wait_until(answers(port, "/metrics"), 30, "node_exporter is ready")
        yield process.pid, port
