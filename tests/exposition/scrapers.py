"""Prometheus and VictoriaMetrics as operators run them, with the configuration in deploy/."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from tests.ports import free_port
from tests.programs import Program
from tests.tools import tool

DEPLOY = Path(__file__).parents[2] / "deploy"


def adapted(file: Path, server: str, token: Path) -> str:
    """A file of deploy/ for another server, with its token and without its patience."""
    text = file.read_text().replace("127.0.0.1:3038", server)
    text = re.sub(r"(\w+_interval): \d+s", r"\1: 1s", text)
    # What is there for servers that want signatures; those for the sidecars stay comments.
    block = re.compile(r"# authorization:\n(?: +#   .*\n)*? +#   credentials_file: machines.token\n")
    text = block.sub(lambda found: found[0].replace("# ", ""), text)
    return text.replace("machines.token", str(token))


class Scraper(Program):
    """A program with the API of Prometheus, as a context manager."""

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir()
        super().__init__(folder / "log")
        self.port, self._folder, self._words = free_port(), folder, words
        self.url = f"http://127.0.0.1:{self.port}"

    def _start(self) -> Sequence[str]:
        return [word.format(port=self.port, folder=self._folder) for word in self._words]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        answer = requests.get(f"{self.url}/api/v1/query", {"query": expression}, timeout=60)
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        result = answer.json()["data"]["result"]
        assert isinstance(result, list)
        return result

    def values(self, metric: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of a metric now, by those labels."""
        found = self.query(metric)
        values = {
            tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1]) for one in found
        }
        assert len(values) == len(found), f"{metric}: two series have the same {labels}"
        return values

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/healthy", timeout=10).ok
        except requests.ConnectionError:
            return False


def prometheus(folder: Path, server: str, token: Path) -> Scraper:
    """A Prometheus that scrapes a server and its sidecars."""
    scraper = Scraper(
        folder,
        tool("prometheus"),
        "--config.file={folder}/prometheus.yml",
        "--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:{port}",
    )
    config = adapted(DEPLOY / "prometheus" / "prometheus.yml", server, token)
    (folder / "prometheus.yml").write_text(config)
    (folder / "rules.yml").write_text((DEPLOY / "prometheus" / "rules.yml").read_text())
    return scraper


def victoria_metrics(folder: Path, server: str, token: Path) -> Scraper:
    """A VictoriaMetrics that does the same."""
    scraper = Scraper(
        folder,
        tool("victoria-metrics"),
        "-promscrape.config={folder}/scrape.yml",
        "-promscrape.httpSDCheckInterval=1s",
        "-storageDataPath={folder}/data",
        "-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
        "-search.disableCache",
    )
    (folder / "scrape.yml").write_text(adapted(DEPLOY / "victoria-metrics" / "scrape.yml", server, token))
    return scraper
