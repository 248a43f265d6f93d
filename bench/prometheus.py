"""The samples of one machine in the form in which Prometheus stores them."""

import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path

from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS, METRICS, Metric
from machines_server.core.sample import Sample

BLOCKS = "18h"
"""The size of blocks that Prometheus chooses for its default retention of 15 days."""


class Series:
    """All values of all metrics of one machine, as if Prometheus had scraped them."""

    def __init__(self, from_s: float) -> None:
        self._from_s = from_s
        self._series: dict[tuple[str, int | None], tuple[array[float], array[float]]] = {}
        self.values = 0

    def add(self, sample: Sample) -> None:
        """Add a sample unless it is too old."""
        if sample.at < self._from_s:
            return
        at = round(sample.at, 3)
        self._add("up", None, at, float(sample.up))
        self._add("poll_s", None, at, round(sample.poll_s, 3))
        result = sample.host_result
        if result and result.answer and (host := result.answer.host):
            for metric in MACHINE_METRICS[2:]:
                self._add(metric.name, None, at, getattr(host, metric.column))
            for gpu in host.gpu:
                for metric in GPU_METRICS:
                    self._add(metric.name, gpu.index, at, getattr(gpu, metric.column))

    def _add(self, name: str, gpu: int | None, at: float, value: float | None) -> None:
        if value is not None:
            ats, values = self._series.setdefault((name, gpu), (array("d"), array("d")))
            ats.append(at)
            values.append(value)
            self.values += 1

    def write_blocks(self, folder: Path) -> None:
        """Write them as the store of a Prometheus."""
        text = folder.with_suffix(".txt")
        with text.open("w") as out:
            for metric in METRICS.values():
                out.write(f"# TYPE {metric.name} gauge\n")
                out.writelines(self._lines(metric))
            out.write("# EOF\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", f"--max-block-duration={BLOCKS}"]
        subprocess.run([*command, text, folder], check=True, stdout=subprocess.DEVNULL)
        text.unlink()

    def _lines(self, metric: Metric) -> Iterator[str]:
        for (name, gpu), (ats, values) in self._series.items():
            if name == metric.name:
                head = f'{name}{{machine="bench0"' + ("}" if gpu is None else f',gpu="{gpu}"}}')
                for at, value in zip(ats, values, strict=True):
                    yield f"{head} {value:.15g} {at:.3f}\n"
