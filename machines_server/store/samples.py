"""What was polled, written to `telemetry.db`: the latest of each endpoint, the history, stays of models."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from machines_server.core.registry import Endpoint, Registry
from machines_server.core.sample import (
    THOUSANDTHS,
    Cycle,
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    Sample,
    State,
    metrics_of,
    scale,
    telemetry,
)
from machines_server.store.connection import transaction

_HOST = {one.name: scale(one) for one in metrics_of(HostSample)}
_GPU = {one.name: scale(one) for one in metrics_of(GpuSample)}
_NOTHING = HostSample()

_ADD_MACHINE = """
INSERT INTO machine (name, file, declared, added_at_ms) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    name = excluded.name, file = excluded.file, declared = excluded.declared, removed_at_ms = NULL
RETURNING id"""
_SET_LATEST = """
INSERT INTO latest (machine_id, endpoint, url, state, reason, polled_at_ms, answered_at_ms, answer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (machine_id, endpoint) DO UPDATE SET
    state = excluded.state, reason = excluded.reason, polled_at_ms = excluded.polled_at_ms,
    answered_at_ms = CASE WHEN excluded.answer IS NOT NULL THEN excluded.answered_at_ms
                          WHEN url = excluded.url THEN answered_at_ms END,
    answer = CASE WHEN excluded.answer IS NOT NULL THEN excluded.answer
                  WHEN url = excluded.url THEN answer END,
    url = excluded.url"""
_ADD_SAMPLE = f"""
INSERT OR REPLACE INTO sample (machine_id, at_ms, sidecar, ollama, up, poll_s, {", ".join(_HOST)})
VALUES ({", ".join("?" * (6 + len(_HOST)))})"""
_ADD_GPU = """
INSERT INTO gpu (machine_id, uuid, position, model, memory_kind) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (machine_id, uuid) DO UPDATE SET
    position = excluded.position, model = excluded.model, memory_kind = excluded.memory_kind
RETURNING id"""
_ADD_GPU_SAMPLE = f"""
INSERT OR REPLACE INTO gpu_sample (gpu_id, at_ms, {", ".join(_GPU)})
VALUES ({", ".join("?" * (2 + len(_GPU)))})"""
_BEGIN_SPAN = """
INSERT INTO model_span (
    machine_id, model, digest, size_bytes, size_vram_bytes, context_length, first_seen_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_PROLONG_POLL_SPAN = """
UPDATE poll_span SET cycle_started_at_ms = ?, ended_at_ms = ?, interval_s = ?, timeout_s = ?
WHERE id = (SELECT max(id) FROM poll_span) AND abs(? - ended_at_ms) <= ?"""
_BEGIN_POLL_SPAN = """
INSERT INTO poll_span (started_at_ms, cycle_started_at_ms, ended_at_ms, interval_s, timeout_s)
VALUES (?, ?, ?, ?, ?)"""

Item = Registry | PollResult | Sample | Cycle


class SampleWriter:
    """Writes what the poller learned; one instance, on the writing connection, used by one thread.

    Its memory (which ids rows have, which models are held) only mirrors the database, and is read anew
    after a write that failed.
    """

    def __init__(self, connection: sqlite3.Connection, max_gap_s: float) -> None:
        """`max_gap_s`: an answer that comes later than this after the one before begins new stays."""
        self._connection = connection
        self._max_gap_ms = round(max_gap_s * 1000)
        self._read_back()

    def write(self, items: Iterable[Item]) -> None:
        """All items in one transaction; raises sqlite3.Error and has then written none."""
        try:
            with transaction(self._connection):
                for item in items:
                    match item:
                        case PollResult():
                            self._set_latest(item)
                        case Sample():
                            self._add_sample(item)
                        case Registry():
                            self._set_machines(item)
                        case Cycle():
                            self._end_cycle(item)
        except BaseException:
            self._read_back()
            raise

    def _read_back(self) -> None:
        rows = self._connection.execute("SELECT id, name FROM machine")
        self._machines: dict[str, int] = {name.casefold(): number for number, name in rows}
        rows = self._connection.execute("SELECT id, machine_id, uuid, position, model, memory_kind FROM gpu")
        self._gpus: dict[tuple[int, str], tuple[int, tuple[Any, ...]]] = {
            (machine, uuid): (number, tuple(rest)) for number, machine, uuid, *rest in rows
        }
        rows = self._connection.execute(
            "SELECT machine_id, answered_at_ms FROM latest WHERE endpoint = ? AND answered_at_ms IS NOT NULL",
            (Endpoint.OLLAMA,),
        )
        self._listed_at: dict[int, int] = dict(rows)
        self._held: dict[int, dict[tuple[Any, ...], int]] = {}
        for number, machine, *stay in self._connection.execute(
            "SELECT id, machine_id, model, digest, size_bytes, size_vram_bytes, context_length"
            " FROM model_span WHERE last_seen_at_ms IS NULL"
        ):
            self._held.setdefault(machine, {})[tuple(stay)] = number

    def _set_machines(self, registry: Registry) -> None:
        now_ms = _ms(registry.loaded_at)
        for machine in registry:
            declared = "{" + ", ".join(
                f"{orjson.dumps(key).decode()}: {value}" for key, value in machine.declared_json.items()
            )
            row = (machine.name, machine.file, declared + "}", now_ms)
            self._machines[machine.name.casefold()] = self._connection.execute(_ADD_MACHINE, row).fetchone()[
                0
            ]
        for name in [name for name in self._machines if registry.get(name) is None]:
            self._remove(self._machines.pop(name), now_ms)

    def _remove(self, machine: int, now_ms: int) -> None:
        self._connection.execute(
            "UPDATE machine SET removed_at_ms = ? WHERE id = ? AND removed_at_ms IS NULL", (now_ms, machine)
        )
        self._connection.execute("DELETE FROM latest WHERE machine_id = ?", (machine,))
        self._end_spans(machine)

    def _set_latest(self, result: PollResult) -> None:
        machine = self._machines.get(result.machine.casefold())
        if machine is None:  # its file went away while it was polled
            return
        at_ms, answer = _ms(result.at), _as_json(result.answer)
        self._connection.execute(
            _SET_LATEST,
            (
                machine,
                result.endpoint,
                result.url,
                result.state,
                result.reason,
                at_ms,
                at_ms if answer is not None else None,
                answer,
            ),
        )
        if result.endpoint is Endpoint.OLLAMA:
            self._follow_models(machine, result, at_ms)

    def _follow_models(self, machine: int, result: PollResult, at_ms: int) -> None:
        """Begin and end stays; a busy Ollama still holds what it held, one that is gone holds nothing."""
        if not isinstance(result.answer, tuple):
            if result.state is not State.BUSY:
                self._end_spans(machine)
            return
        if abs(at_ms - self._listed_at.get(machine, at_ms)) > self._max_gap_ms:
            self._end_spans(machine)
        held = self._held.setdefault(machine, {})
        now_held = {_stay(model) for model in result.answer}
        for stay in held.keys() - now_held:
            self._end_span(held.pop(stay), self._listed_at.get(machine, at_ms))
        for stay in now_held - held.keys():
            row = (machine, *stay, at_ms)
            held[stay] = self._connection.execute(_BEGIN_SPAN, row).lastrowid or 0
        self._listed_at[machine] = at_ms

    def _end_spans(self, machine: int) -> None:
        for span in self._held.pop(machine, {}).values():
            self._end_span(span, self._listed_at.get(machine))

    def _end_span(self, span: int, last_seen_at_ms: int | None) -> None:
        self._connection.execute(
            "UPDATE model_span SET last_seen_at_ms = coalesce(?, first_seen_at_ms) WHERE id = ?",
            (last_seen_at_ms, span),
        )

    def _add_sample(self, sample: Sample) -> None:
        machine = self._machines.get(sample.machine.casefold())
        if machine is None:
            return
        at_ms = _ms(sample.at)
        sidecar, ollama = (sample.results.get(endpoint) for endpoint in Endpoint)
        host = sidecar.answer if sidecar and isinstance(sidecar.answer, HostSample) else _NOTHING
        states = sidecar and sidecar.state, ollama and ollama.state
        values = _stored(host, _HOST)
        poll = round(sample.poll_s * THOUSANDTHS)
        self._connection.execute(
            _ADD_SAMPLE, (machine, at_ms, *states, THOUSANDTHS * sample.up, poll, *values)
        )
        for gpu in host.gpu:
            row = (self._gpu_id(machine, gpu), at_ms, *_stored(gpu, _GPU))
            self._connection.execute(_ADD_GPU_SAMPLE, row)

    def _end_cycle(self, cycle: Cycle) -> None:
        started_ms = _ms(cycle.started_at)
        row = (started_ms, _ms(cycle.ended_at), cycle.interval_s, cycle.timeout_s)
        prolonged = self._connection.execute(_PROLONG_POLL_SPAN, (*row, started_ms, self._max_gap_ms))
        if prolonged.rowcount == 0:
            self._connection.execute(_BEGIN_POLL_SPAN, (started_ms, *row))

    def _gpu_id(self, machine: int, gpu: GpuSample) -> int:
        about = (gpu.index, gpu.model, gpu.memory_kind)
        number, known = self._gpus.get((machine, gpu.uuid), (0, ()))
        if known != about:
            number = self._connection.execute(_ADD_GPU, (machine, gpu.uuid, *about)).fetchone()[0]
            self._gpus[machine, gpu.uuid] = (number, about)
        return number


def _ms(at: float) -> int:
    return round(at * 1000)


def _stored(sample: HostSample | GpuSample, scales: Mapping[str, int]) -> list[int | None]:
    """The metrics of a sample as the database keeps them."""
    values = [(getattr(sample, name), scale) for name, scale in scales.items()]
    return [None if value is None else round(value * scale) for value, scale in values]


def _stay(model: LoadedModel) -> tuple[Any, ...]:
    return model.model, model.digest, model.size_bytes, model.size_vram_bytes, model.context_length


def _as_json(answer: HostSample | tuple[LoadedModel, ...] | None) -> str | None:
    """The answer in the form of the API."""
    if answer is None:
        return None
    if isinstance(answer, HostSample):
        return orjson.dumps(telemetry(answer)).decode()
    return orjson.dumps([_public_model(model) for model in answer]).decode()


def _public_model(model: LoadedModel) -> Mapping[str, Any]:
    return {
        "name": model.model,
        "model": model.model,
        "digest": model.digest,
        "size_bytes": model.size_bytes,
        "size_vram_bytes": model.size_vram_bytes,
        "processor": model.processor,
        "context_length": model.context_length,
        "expires_at": model.expires_at,
    }
