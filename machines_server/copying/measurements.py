"""Copies measurements: samples where they are kept, and before those, samples with the same folds as rollups.

A rollup of n samples becomes n samples with its sum, minimum and maximum, side by side at the beginning of
its minute or hour. So queries for whole rollups are exact, and finer ones find gaps rather than values that
nobody measured.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from machines_server.copying.engine import EngineWriter
from machines_server.copying.progress import Progress, Reached
from machines_server.copying.rows import Targets, kept_text
from machines_server.copying.source import SLICE_S, Slice, Source
from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS, METRICS, Metric
from machines_server.core.past.rollup import RAW, TIER_STEPS_S, Fold
from machines_server.core.past.unfold import Runs, unfolded
from machines_server.errors import StoreError
from machines_server.store.postgres.database import Database
from machines_server.store.promql.message import Stamps, label
from machines_server.store.promql.names import (
    END_OF_STAMPS_MS,
    FIRST_STAMP_MS,
    STAMP_STEP_MS,
    series_name,
    stored_per_value,
)
from machines_server.store.promql.series import PromqlSeries
from machines_server.store.values import SeriesKey

MEASUREMENTS = "measurements"
KEPT_ANYWHERE_S = 14 * 86_400
"""A time for which every engine keeps samples."""
ANSWER_WITHIN_S = 40.0
"""How long an engine may take until its answers include accepted samples."""
_LOOK_EVERY_S = 3.0
_UP = METRICS["up"]
_FOLD_COLUMNS = ("n", "sum", "min", "max")
_MAX_KEPT_RUNS = 20
_Labels = Sequence[bytes]
"""The labels of the series of each metric, in order."""


class MeasurementCopy:
    """Copies slice by slice, oldest first, all machines together: engines refuse much older samples."""

    def __init__(
        self,
        source: Source,
        database: Database,
        engine: EngineWriter,
        series: PromqlSeries,
        progress: Progress,
        told: Callable[[float], None],
        check_s: float = ANSWER_WITHIN_S,
    ) -> None:
        """`told` is called with the share that is copied, from 0 to 1."""
        self._source, self._database, self._engine, self._series = source, database, engine, series
        self._progress, self._told, self._check_s = progress, told, check_s
        self._runs: dict[int, Stamps] = {}
        self.left_out = 0
        """How many folds no values can have, as in damaged rows."""

    def copy(self, targets: Targets, site: str, since_ms: int) -> None:
        """Copy everything not copied yet, from a time on."""
        bounds = self._source.bounds_ms()
        if bounds is None:
            return
        reached = self._progress.begun(MEASUREMENTS)
        end_ms = min(bounds[1], END_OF_STAMPS_MS - STAMP_STEP_MS)
        if reached.until >= end_ms:
            return
        machines = [
            (number, [_labels(metric, target.name, site) for metric in MACHINE_METRICS])
            for number, target in targets.items()
        ]
        cards = [
            (
                card.id,
                [
                    _labels(metric, targets[card.machine].name, site, kept_text(card.uuid))
                    for metric in GPU_METRICS
                ],
            )
            for card in self._source.cards()
        ]
        start_ms = self._start_ms(max(bounds[0], since_ms), reached.until)
        is_first = reached.until == 0
        for part in self._source.slices(start_ms, end_ms):
            for metrics, keys in ((MACHINE_METRICS, machines), (GPU_METRICS, cards)):
                for number, labels in keys:
                    self._copy_one(metrics, number, labels, part)
            self._engine.flush()
            if is_first:
                self._check(part, targets)
                is_first = False
            if part.to_ms > reached.until:
                after = Reached(part.to_ms, {})
                with self._database.transaction() as connection:
                    self._progress.advance(connection, MEASUREMENTS, reached, after)
                reached = after
            self._told((reached.until - bounds[0]) / (end_ms - bounds[0]))

    def _check(self, part: Slice, targets: Targets) -> None:
        """Raise StoreError if the engine takes samples but does not keep them."""
        if part.to_ms / 1000 > time.time() - KEPT_ANYWHERE_S:
            return
        from_s, to_s = part.from_ms // 1000, -(-part.to_ms // 1000)
        keys = [SeriesKey(target.name, _UP) for target in targets.values()]
        until = time.monotonic() + self._check_s
        while time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)  # it caches for a while that it did not find them
            if any(self._series.series(keys, from_s, to_s, to_s - from_s)):
                return
        day = datetime.fromtimestamp(from_s, UTC).date()
        raise StoreError(
            f"the history engine takes samples of {day} but does not return them: make it keep them for"
            " longer (VictoriaMetrics: -retentionPeriod), check MACHINES_QUERY_URL, or leave older ones"
            " out with --since"
        )

    def _start_ms(self, first_ms: int, until_ms: int) -> int:
        """Where to continue: a little earlier, since the last samples of a running server come in any order.

        Samples that are sent again are the same, unless only a rollup of them is left.
        """
        earlier_ms = (until_ms - 1) // 1000 // SLICE_S * SLICE_S * 1000
        start_ms = max(earlier_ms, min(until_ms, self._source.raw_from_ms()))
        return max(start_ms, first_ms, FIRST_STAMP_MS)

    def _copy_one(self, metrics: Sequence[Metric], key: int, labels: _Labels, part: Slice) -> None:
        if part.tier == RAW:
            self._copy_samples(metrics, key, labels, part)
        else:
            self._copy_folds(metrics, key, labels, part)

    def _copy_samples(self, metrics: Sequence[Metric], key: int, labels: _Labels, part: Slice) -> None:
        columns = [metric.column for metric in metrics]
        rows, at_ms, last_ms = list[tuple[Any, ...]](), list[int](), 0
        for row in self._source.measured(metrics, key, part, columns):
            stamp_ms = max(row[0] // STAMP_STEP_MS * STAMP_STEP_MS, last_ms + STAMP_STEP_MS)
            if stamp_ms // 1000 == row[0] // 1000:  # the time stays in its bucket
                rows.append(row)
                at_ms.append(stamp_ms)
                last_ms = stamp_ms
        if not rows:
            return
        stamps = Stamps(at_ms)
        _, *values = zip(*rows, strict=True)
        for metric, its_labels, its_values in zip(metrics, labels, values, strict=True):
            scale = stored_per_value(metric)
            known = (None if value is None else value / scale for value in its_values)
            self._engine.add(its_labels, *stamps.each(known))

    def _copy_folds(self, metrics: Sequence[Metric], key: int, labels: _Labels, part: Slice) -> None:
        columns = [f"{metric.column}_{detail}" for metric in metrics for detail in _FOLD_COLUMNS]
        step_ms = 1000 * TIER_STEPS_S[part.tier]
        for at_ms, *values in self._source.measured(metrics, key, part, columns):
            for place, metric in enumerate(metrics):
                known = Fold(*values[4 * place : 4 * place + 4])
                runs = unfolded(known) if known.n * STAMP_STEP_MS <= step_ms else None
                if runs is None:
                    self.left_out += 1
                elif runs:
                    samples = self._samples(at_ms, known.n, runs, stored_per_value(metric))
                    self._engine.add(labels[place], samples, known.n)

    def _samples(self, at_ms: int, number: int, runs: Runs, scale: int) -> bytes:
        """Samples side by side from a moment on."""
        stamps = self._runs.get(at_ms)
        if stamps is None or len(stamps) < number:
            if len(self._runs) > _MAX_KEPT_RUNS:
                self._runs.clear()
            stamps = Stamps(range(at_ms, at_ms + number * STAMP_STEP_MS, STAMP_STEP_MS))
            self._runs[at_ms] = stamps
        parts, at = list[bytes](), 0
        for value, times in runs:
            parts.append(stamps.run(value / scale, at, at + times))
            at += times
        return b"".join(parts)


def _labels(metric: Metric, machine: str, site: str, gpu: str = "") -> bytes:
    """The labels of a series, sorted like those of polled samples."""
    names = {"__name__": series_name(metric), "gpu": gpu, "machine": machine, "site": site}
    return b"".join(label(name, value) for name, value in names.items())
