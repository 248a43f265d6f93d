"""promtool accepts what deploy/ has for Prometheus, and the tests of the alerts pass."""

import re
import subprocess

import pytest

from tests.exposition.scrapers import DEPLOY
from tests.tools import tool

RULES = DEPLOY / "prometheus" / "rules.yml"
TESTS = DEPLOY / "prometheus" / "rules.test.yml"


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("check config --lint=all --lint-fatal", "prometheus/prometheus.yml"),
        ("check config --syntax-only", "victoria-metrics/scrape.yml"),
        ("check rules --lint=all --lint-fatal", "prometheus/rules.yml"),
        ("test rules", "prometheus/rules.test.yml"),
    ],
)
def test_promtool_finds_no_fault(words: str, file: str) -> None:
    command = [tool("promtool"), *words.split(), str(DEPLOY / file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


def test_every_alert_is_tested_while_it_fires() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", TESTS.read_text())
    assert set(alerts) == set(tested)
