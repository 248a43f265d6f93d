"""Prometheus and VictoriaMetrics as operators run them for a cluster, and others that lie."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import requests

from tests.ports import free_port
from tests.programs import Program
from tests.tools import tool

OUT_OF_ORDER = "storage: {tsdb: {out_of_order_time_window: 30m}}\n"


class Engine(Program):
    """An engine with a store of its own; it can be stopped and started again."""

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "log")
        self.port, self.folder, self._words = free_port(), folder, words
        self.url = f"http://127.0.0.1:{self.port}"
        self.write_url = f"{self.url}/api/v1/write"

    def _start(self) -> Sequence[str]:
        return [word.format(port=self.port, folder=self.folder) for word in self._words]

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=10).ok
        except requests.ConnectionError:
            return False

    def flush(self) -> None:
        """Let queries find what was sent: VictoriaMetrics remembers for 10 s what it did not find."""
        requests.get(f"{self.url}/internal/force_flush", timeout=60)

    def write(self, body: bytes) -> int:
        """Send the body of a remote write; returns the status of the answer."""
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        return requests.post(self.write_url, body, headers=headers, timeout=60).status_code

    def get(self, path: str, **parameters: Any) -> Any:
        """The data of an answer of its API."""
        answer = requests.get(f"{self.url}/api/v1/{path}", parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def labels(self, selector: str, **parameters: Any) -> list[Mapping[str, str]]:
        """The labels of the series that a selector finds."""
        found = self.get("series", **{"match[]": selector}, **parameters)
        return sorted(found, key=lambda one: sorted(one.items()))

    def samples(self, selector: str, at: float, span_s: int) -> list[tuple[float, float]]:
        """The samples of the one series that a selector finds, in the span before `at`."""
        found = self.get("query", query=f"{selector}[{span_s}s]", time=at)["result"]
        samples = [(at, float(value)) for one in found for at, value in one["values"]]
        return [(at, value) for at, value in samples if value == value]  # VictoriaMetrics shows ends as well

    def value(self, selector: str, at: float) -> float | None:
        """The value at a moment of the one series that a selector finds; None if it has ended."""
        found = self.get("query", query=selector, time=at, nocache=1)["result"]
        return float(found[0]["value"][1]) if found else None


def prometheus(folder: Path, config: str = OUT_OF_ORDER, *more: str) -> Engine:
    """A Prometheus that takes remote write."""
    engine = Engine(
        folder,
        tool("prometheus"),
        "--config.file={folder}/prometheus.yml",
        "--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=10y",
        "--web.enable-remote-write-receiver",
        "--web.listen-address=127.0.0.1:{port}",
        *more,
    )
    (folder / "prometheus.yml").write_text(config)
    return engine


def victoria_metrics(folder: Path, *more: str) -> Engine:
    """A VictoriaMetrics."""
    return Engine(
        folder,
        tool("victoria-metrics"),
        "-storageDataPath={folder}/data",
        "-retentionPeriod=10y",
        "-httpListenAddr=127.0.0.1:{port}",
        "-memory.allowedBytes=256MB",
        "-dedup.minScrapeInterval=1ms",
        *more,
    )


def _without_config(folder: Path, _: str = "") -> Engine:
    return victoria_metrics(folder)


class Make(Protocol):
    """Makes an engine with its store in a folder; `config` is for Prometheus."""

    def __call__(self, folder: Path, config: str = ..., /) -> Engine: ...


MAKERS: Mapping[str, Make] = {"prometheus": prometheus, "victoria-metrics": _without_config}
