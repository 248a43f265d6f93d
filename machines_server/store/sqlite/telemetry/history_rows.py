"""The rows of each sample: its values, those of its GPUs, and the states of its endpoints."""

import sqlite3
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from machines_server.core.sample import (
    THOUSANDTHS,
    GpuSample,
    HostSample,
    Sample,
    State,
    metrics_of,
    scale,
)
from machines_server.store.sql.budget import HOUR_MS, HourlyBudget
from machines_server.store.sql.events import to_ms
from machines_server.store.sqlite.telemetry.bulk import Bulk
from machines_server.store.sqlite.telemetry.rollups import Rollups


def _split(kind: type[HostSample | GpuSample]) -> tuple[list[str], list[str]]:
    """The metrics that are kept in thousandths, and those that are kept as they are."""
    names: tuple[list[str], list[str]] = [], []
    for one in metrics_of(kind):
        names[scale(one) == 1].append(one.name)
    return names


(_HOST_SCALED, _HOST_PLAIN), (_GPU_SCALED, _GPU_PLAIN) = _split(HostSample), _split(GpuSample)
_HOST, _GPU = _HOST_SCALED + _HOST_PLAIN, _GPU_SCALED + _GPU_PLAIN
_host_scaled, _host_plain = attrgetter(*_HOST_SCALED), attrgetter(*_HOST_PLAIN)
_gpu_scaled, _gpu_plain = attrgetter(*_GPU_SCALED), attrgetter(*_GPU_PLAIN)
_UNKNOWN_HOST = HostSample()

_ADD_SAMPLE = f"INSERT OR REPLACE INTO sample (machine_id, at_ms, up, poll_s, {', '.join(_HOST)})"
_ADD_STATE = "INSERT OR REPLACE INTO endpoint_state (machine_id, at_ms, endpoint, state)"
_ADD_GPU = """
INSERT INTO gpu (machine_id, uuid, position, model, memory_kind) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (machine_id, uuid) DO UPDATE SET
    position = excluded.position, model = excluded.model, memory_kind = excluded.memory_kind
RETURNING id"""
_ADD_GPU_SAMPLE = f"INSERT OR REPLACE INTO gpu_sample (gpu_id, at_ms, {', '.join(_GPU)})"

GPUS_SINCE = """
SELECT uuid, 1 FROM gpu
WHERE machine_id = ? AND (SELECT min(at_ms) FROM gpu_sample WHERE gpu_id = gpu.id) >= ?"""
"""The UUIDs of the GPUs that are new on a machine since a time, each with a count of 1."""

_States = tuple[int, dict[str, State]]
"""The hour of the latest sample, and the states in it by kind of endpoint."""


class HistoryRows:
    """Adds the rows of samples; used within the transactions of a SampleWriter."""

    def __init__(self, connection: sqlite3.Connection, rollups: Rollups, budget: HourlyBudget) -> None:
        """`budget` limits how many GPUs may be new."""
        self._connection, self._rollups, self._budget = connection, rollups, budget
        self._samples = Bulk(_ADD_SAMPLE, 4 + len(_HOST))
        self._gpu_samples = Bulk(_ADD_GPU_SAMPLE, 2 + len(_GPU))
        self._states = Bulk(_ADD_STATE, 4)
        self._last_states: dict[int, _States] = {}
        self._gpus: dict[tuple[int, str], tuple[int, tuple[Any, ...]]] = {}

    def read_back(self) -> None:
        """Forget the rows that were not inserted, and read the ids of GPUs again."""
        for bulk in (self._samples, self._gpu_samples, self._states):
            bulk.clear()
        self._last_states.clear()
        self._read_gpus()

    def refresh(self) -> None:
        """Read the ids of GPUs again if some were deleted."""
        if self._gpus_gone != self._rollups.gpus_gone:
            self._read_gpus()

    def _read_gpus(self) -> None:
        self._gpus_gone = self._rollups.gpus_gone
        rows = self._connection.execute("SELECT id, machine_id, uuid, position, model, memory_kind FROM gpu")
        self._gpus = {(machine, uuid): (number, tuple(rest)) for number, machine, uuid, *rest in rows}

    def forget(self, machine: int) -> None:
        """Forget a machine that was removed."""
        self._last_states.pop(machine, None)

    def insert(self) -> None:
        """Insert the rows that were added."""
        for bulk in (self._samples, self._gpu_samples, self._states):
            bulk.insert(self._connection)

    def add(self, machine: int, sample: Sample) -> None:
        """Add the rows of a sample, and mark its minute as due for a rollup."""
        at_ms = to_ms(sample.at)
        result = sample.host_result
        host = (result.answer.host if result and result.answer else None) or _UNKNOWN_HOST
        poll = round(sample.poll_s * THOUSANDTHS)
        values = (*_in_thousandths(_host_scaled(host)), *_host_plain(host))
        self._samples.add((machine, at_ms, int(sample.up), poll, *values))
        for gpu in host.gpu:
            number = self._gpu_id(machine, gpu, at_ms)
            if number is not None:
                self._gpu_samples.add((number, at_ms, *_in_thousandths(_gpu_scaled(gpu)), *_gpu_plain(gpu)))
        self._add_states(machine, at_ms, sample)
        self._rollups.mark(machine, at_ms)

    def _add_states(self, machine: int, at_ms: int, sample: Sample) -> None:
        """Add a row for each endpoint whose state has changed, and for all of them in a new hour."""
        hour, states = at_ms // HOUR_MS, {kind: result.state for kind, result in sample.results.items()}
        before = self._last_states.get(machine)
        if before == (hour, states):
            return
        self._last_states[machine] = hour, states
        known = before[1] if before and before[0] == hour else {}
        for kind, state in states.items():
            if known.get(kind) is not state:
                self._states.add((machine, at_ms, kind, state))
        for kind in (before[1] if before else {}).keys() - states.keys():
            self._states.add((machine, at_ms, kind, None))

    def _gpu_id(self, machine: int, gpu: GpuSample, at_ms: int) -> int | None:
        """The id of a GPU; None for a new one if there were too many within this hour."""
        about = (gpu.index, gpu.model, gpu.memory_kind)
        number, known = self._gpus.get((machine, gpu.uuid), (None, ()))
        if known != about:
            if number is None and not self._budget.take(machine, gpu.uuid, at_ms):
                return None
            number = self._connection.execute(_ADD_GPU, (machine, gpu.uuid, *about)).fetchone()[0]
            self._gpus[machine, gpu.uuid] = (number, about)
        return number


def _in_thousandths(values: Iterable[float | None]) -> list[int | None]:
    return [None if value is None else round(value * THOUSANDTHS) for value in values]
