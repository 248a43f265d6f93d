"""Rollups, compared with what the samples give."""

import sqlite3
from typing import Any

from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS
from machines_server.core.past.rollup import TIER_STEPS_S


def rollups_that_differ(connection: sqlite3.Connection) -> list[Any]:
    """Buckets that are not what the samples of the database make them, unless they are still to be made."""
    deleted_until_s = connection.execute("SELECT at_s FROM retention WHERE tier = 'raw'").fetchone() or (0,)
    wrong: list[Any] = []
    for tier, step_s in TIER_STEPS_S.items():
        due = {
            at_s // step_s * step_s
            for (at_s,) in connection.execute("SELECT at_s FROM rollup_due WHERE tier <= ?", (step_s,))
        }
        for table, key, metrics in (
            ("sample", "machine_id", MACHINE_METRICS),
            ("gpu_sample", "gpu_id", GPU_METRICS),
        ):
            names = [metric.column for metric in metrics]
            folds = ", ".join(f"count({name}), sum({name}), min({name}), max({name})" for name in names)
            columns = ", ".join(f"{name}_{part}" for name in names for part in ("n", "sum", "min", "max"))
            made = _by_bucket(connection, f"SELECT {key}, at_s, {columns} FROM {table}_{tier}")
            wanted = _by_bucket(
                connection,
                f"SELECT {key}, at_ms / 1000 / {step_s} * {step_s}, {folds} FROM {table} WHERE at_ms >="
                f" {deleted_until_s[0] * 1000} GROUP BY 1, 2",
            )
            wrong += [
                (table, tier, bucket, made.get(bucket), folded)
                for bucket, folded in wanted.items()
                if bucket[1] not in due and made.get(bucket) != folded
            ]
    return wrong


def _by_bucket(connection: sqlite3.Connection, sql: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    return {(key, at_s): tuple(folds) for key, at_s, *folds in connection.execute(sql)}
