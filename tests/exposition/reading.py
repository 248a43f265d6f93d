"""Reading an exposition as Prometheus does."""

import subprocess
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.tools import tool

Series = tuple[str, frozenset[tuple[str, str]]]


class Exposition:
    """The series of an exposition."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: dict[Series, float] = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation, family.name
            for sample in family.samples:
                series = sample.name, frozenset(sample.labels.items())
                assert series not in self.values, f"{series} is there twice"
                self.values[series] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """The value of a series, or None if it is not there."""
        return self.values.get((name, frozenset(labels.items())))

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all series with that name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (of, has), value in self.values.items() if of == name and wanted <= has)

    def names(self, **labels: str) -> set[str]:
        """The names of the series that have these labels."""
        wanted = set(labels.items())
        return {name for name, has in self.values if wanted <= has}

    def labels(self, name: str) -> list[Mapping[str, str]]:
        """The labels of all series with that name."""
        return [dict(has) for of, has in self.values if of == name]

    def check(self) -> None:
        """Have promtool look for what Prometheus' conventions forbid."""
        words = [tool("promtool"), "check", "metrics"]
        done = subprocess.run(words, input=self.text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
