"""Reads a range of metrics from the coarsest tiers that give exact results."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from machines_server.core.past.metrics import Metric
from machines_server.core.past.rollup import HOUR, RAW, TIER_STEPS_S, Fold, coarsest_tier, merge, segments
from machines_server.store.values import SeriesKey

FoldSeries = list[tuple[int, Fold]]


def read_series(
    connection: sqlite3.Connection,
    machine: int,
    gpus: Mapping[str, int],
    wanted: Sequence[SeriesKey],
    from_s: int,
    to_s: int,
    step_s: int,
) -> list[FoldSeries]:
    """The buckets of each key of one machine that have values.

    `machine` and `gpus` (by UUID) are ids of rows. An unknown GPU has none. `from_s` and `to_s` are
    multiples of `step_s`.
    """
    found: list[FoldSeries] = [[] for _ in wanted]
    by_source: dict[tuple[bool, int], list[int]] = {}
    for place, (_, metric, gpu) in enumerate(wanted):
        source = machine if gpu is None else gpus.get(gpu)
        if source is not None:
            by_source.setdefault((metric.is_gpu, source), []).append(place)
    parts = segments(from_s, to_s, coarsest_tier(step_s), _first_due(connection, machine))
    for (_, source), places in by_source.items():
        metrics = [wanted[place].metric for place in places]
        for at, *values in _buckets(connection, metrics, source, parts, step_s):
            for number, place in enumerate(places):
                if values[4 * number]:
                    _append(found[place], at, _fold(values[4 * number : 4 * number + 4]))
    return found


def _first_due(connection: sqlite3.Connection, machine: int) -> dict[str, int]:
    """For each tier that is not up to date, when the machine's first missing rollup begins."""
    first = "SELECT min(at_s) FROM rollup_due WHERE tier = ? AND machine_id = ?"
    found = {
        tier: connection.execute(first, (step_s, machine)).fetchone()[0]
        for tier, step_s in TIER_STEPS_S.items()
    }
    return {tier: at_s for tier, at_s in found.items() if at_s is not None}


def _fold(values: Sequence[Any]) -> Fold:
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError("a damaged row holds something other than numbers")
    return Fold(*values)


def _append(points: FoldSeries, at: int, fold: Fold) -> None:
    """Append a part of a bucket, merging it if it belongs to the last one."""
    if points and points[-1][0] == at:
        fold = merge((points.pop()[1], fold))
    points.append((at, fold))


def _buckets(
    connection: sqlite3.Connection,
    metrics: Sequence[Metric],
    source: int,
    parts: Sequence[tuple[str, int, int]],
    step_s: int,
) -> Iterator[list[Any]]:
    """Each bucket, in parts by tier: its start, then n, sum, min and max of each metric."""
    for tier, from_s, to_s in parts:
        first = from_s // step_s * step_s
        bounds = {"key": source, "first": first, "from": from_s, "to": to_s, "step": step_s}
        (text,) = connection.execute(_statement(metrics, tier, step_s), bounds).fetchone()
        yield from orjson.loads(f"[{text}]")


def _statement(metrics: Sequence[Metric], tier: str, step_s: int) -> str:
    """SQL for all buckets as one JSON text, each from a subquery, since GROUP BY would sort the rows.

    A subquery can return only one value, and one text is read faster than many rows.
    """
    table, key = ("gpu_sample", "gpu_id") if metrics[0].is_gpu else ("sample", "machine_id")
    # The sum of bytes over more than an hour may exceed 64 bits.
    add = "sum" if step_s <= TIER_STEPS_S[HOUR] else "total"
    if tier == RAW:
        fold, time, unit = "count({0}), %s({0}), min({0}), max({0})", "at_ms", 1000
    else:
        fold, time, unit = "sum({0}_n), %s({0}_sum), min({0}_min), max({0}_max)", "at_s", 1
        table = f"{table}_{tier}"
    folds = ", ".join((fold % add).format(metric.column) for metric in metrics)
    return (
        "WITH RECURSIVE bucket (at) AS"
        " (VALUES (:first) UNION ALL SELECT at + :step FROM bucket WHERE at + :step < :to)"
        f" SELECT group_concat((SELECT json_array(at, {folds}) FROM {table} WHERE {key} = :key"
        f" AND {time} >= max(at, :from) * {unit} AND {time} < min(at + :step, :to) * {unit})) FROM bucket"
    )
