"""What was polled, written to `telemetry.db`: the latest of each endpoint, the history, stays of models."""

import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import orjson

from machines_server.core.changes import (
    Event,
    reboot_event,
    status_event,
    verdict_of,
)
from machines_server.core.registry import Endpoint, Registry
from machines_server.core.sample import (
    THOUSANDTHS,
    Answer,
    Cycle,
    GpuSample,
    HostSample,
    Library,
    PollResult,
    Sample,
    State,
    metrics_of,
    scale,
)
from machines_server.core.status import NOT_ASKED, Status
from machines_server.store.bulk import Bulk
from machines_server.store.connection import transaction
from machines_server.store.events import add_event, to_ms
from machines_server.store.machines import MachineRows
from machines_server.store.rollups import Rollups
from machines_server.store.stays import Stays


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
_NOTHING = HostSample()

_SET_LATEST = """
INSERT INTO latest
    (machine_id, endpoint, url, state, reason, polled_at_ms, answered_at_ms, answer, clock_ahead_s,
     revision)"""
_REPLACE_LATEST = """
ON CONFLICT (machine_id, endpoint) DO UPDATE SET
    state = excluded.state, reason = excluded.reason, polled_at_ms = excluded.polled_at_ms,
    answered_at_ms = CASE WHEN excluded.answer IS NOT NULL THEN excluded.answered_at_ms
                          WHEN url = excluded.url THEN answered_at_ms END,
    answer = CASE WHEN excluded.answer IS NOT NULL THEN excluded.answer
                  WHEN url = excluded.url THEN answer END,
    clock_ahead_s = CASE WHEN excluded.answer IS NOT NULL THEN excluded.clock_ahead_s
                         WHEN url = excluded.url THEN clock_ahead_s END,
    url = excluded.url, revision = excluded.revision"""
_ADD_SAMPLE = f"""
INSERT OR REPLACE INTO sample (machine_id, at_ms, sidecar, ollama, up, poll_s, {", ".join(_HOST)})"""
_ADD_GPU = """
INSERT INTO gpu (machine_id, uuid, position, model, memory_kind) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (machine_id, uuid) DO UPDATE SET
    position = excluded.position, model = excluded.model, memory_kind = excluded.memory_kind
RETURNING id"""
_ADD_GPU_SAMPLE = f"INSERT OR REPLACE INTO gpu_sample (gpu_id, at_ms, {', '.join(_GPU)})"
_PROLONG_POLL_SPAN = """
UPDATE poll_span SET cycle_started_at_ms = ?, ended_at_ms = ?, interval_s = ?, timeout_s = ?
WHERE id = (SELECT max(id) FROM poll_span) AND abs(? - ended_at_ms) <= ?"""
_BEGIN_POLL_SPAN = """
INSERT INTO poll_span (started_at_ms, cycle_started_at_ms, ended_at_ms, interval_s, timeout_s)
VALUES (?, ?, ?, ?, ?)"""

log = logging.getLogger(__name__)

Item = Registry | PollResult | Sample | Cycle | Library


class SampleWriter:
    """Writes what the poller learned; one instance, on the writing connection, used by one thread.

    Its memory (which ids rows have, which models are held) only mirrors the database, and is read anew
    after a write that failed.
    """

    def __init__(self, connection: sqlite3.Connection, max_gap_s: float, rollups: Rollups) -> None:
        """`max_gap_s`: what comes later than this after the one before does not go on from it."""
        self._connection, self._rollups = connection, rollups
        self._max_gap_ms, self._revision = round(max_gap_s * 1000), 0
        self._latest = Bulk(_SET_LATEST, 10, _REPLACE_LATEST)
        self._samples = Bulk(_ADD_SAMPLE, 6 + len(_HOST))
        self._gpu_samples = Bulk(_ADD_GPU_SAMPLE, 2 + len(_GPU))
        self._bulks = self._latest, self._samples, self._gpu_samples
        self._machines, self._stays = MachineRows(connection), Stays(connection, self._max_gap_ms)
        self._read_back()

    def write(self, items: Iterable[Item]) -> None:
        """All items in one transaction; raises sqlite3.Error and has then written none."""
        try:
            with transaction(self._connection):
                self._revision += 1
                for item in items:
                    match item:
                        case PollResult():
                            self._set_latest(item)
                        case Sample():
                            self._add_sample(item)
                        case Registry():
                            self._put_rows()  # of a machine that goes now
                            for machine in self._machines.set_all(item):
                                self._stays.end_all(machine)
                                self._seen.pop(machine, None)
                                self._texts.pop(machine, None)
                        case Cycle():
                            self._end_cycle(item)
                        case Library():
                            self._set_library(item)
                self._put_rows()
        except BaseException:
            self._rollups.forget()
            self._read_back()
            raise

    def _put_rows(self) -> None:
        for bulk in self._bulks:
            bulk.put(self._connection)

    def _read_back(self) -> None:
        for bulk in self._bulks:
            bulk.clear()
        (kept,) = self._connection.execute("SELECT coalesce(max(revision), 0) FROM latest").fetchone()
        # Rows of a machine that is gone had higher ones, and a reader takes over only what is higher.
        self._revision = max(kept, self._revision, to_ms(time.time()))
        self._machines.read_back()
        self._stays.read_back()
        rows = self._connection.execute("SELECT id, machine_id, uuid, position, model, memory_kind FROM gpu")
        self._gpus: dict[tuple[int, str], tuple[int, tuple[Any, ...]]] = {
            (machine, uuid): (number, tuple(rest)) for number, machine, uuid, *rest in rows
        }
        self._seen: dict[int, _Seen] = {}
        self._texts: dict[int, tuple[Answer, str]] = {}

    def _set_latest(self, result: PollResult) -> None:
        machine = self._machines.id(result.machine)
        if machine is None:  # its file went away while it was polled
            return
        at_ms, answer = to_ms(result.at), self._text(machine, result.answer)
        self._latest.add(
            (
                machine,
                result.endpoint,
                result.url,
                result.state,
                result.reason,
                at_ms,
                at_ms if answer is not None else None,
                answer,
                result.clock_ahead_s,
                self._revision,
            )
        )

    def _text(self, machine: int, answer: Answer | None) -> str | None:
        """An answer as JSON by the names of its fields, sizes in bytes; `latest.py` reads it."""
        if answer is None:
            return None
        if isinstance(answer, HostSample):
            return orjson.dumps(answer).decode()
        known, text = self._texts.get(machine, (None, ""))
        if known is not answer:  # an Ollama often says the same again, and then it is the same object
            text = orjson.dumps(answer).decode()
            self._texts[machine] = answer, text
        return text

    def _set_library(self, library: Library) -> None:
        machine = self._machines.id(library.machine)
        if machine is not None:
            row = (machine, library.url, to_ms(library.at), orjson.dumps(library.models).decode())
            self._connection.execute("INSERT OR REPLACE INTO library VALUES (?, ?, ?, ?)", row)

    def _add_sample(self, sample: Sample) -> None:
        machine = self._machines.id(sample.machine)
        if machine is None:
            return
        at_ms = to_ms(sample.at)
        sidecar, ollama = (sample.results.get(endpoint) for endpoint in Endpoint)
        host = sidecar.answer if sidecar and isinstance(sidecar.answer, HostSample) else _NOTHING
        states = sidecar and sidecar.state, ollama and ollama.state
        poll = round(sample.poll_s * THOUSANDTHS)
        head = machine, at_ms, *states, int(sample.up), poll
        self._samples.add((*head, *_in_thousandths(_host_scaled(host)), *_host_plain(host)))
        for gpu in host.gpu:
            number = self._gpu_id(machine, gpu)
            self._gpu_samples.add((number, at_ms, *_in_thousandths(_gpu_scaled(gpu)), *_gpu_plain(gpu)))
        self._rollups.mark(machine, at_ms)
        self._add_events(machine, sample, host)
        if ollama and isinstance(ollama.answer, tuple):
            self._stays.follow(machine, ollama.at, ollama.answer)

    def _add_events(self, machine: int, sample: Sample, host: HostSample) -> None:
        """What this sample says beside the one before it."""
        seen = self._seen.get(machine) or self._seen.setdefault(machine, self._last_seen(machine))
        told = {one: (result.state, result.reason) for one, result in sample.results.items()}
        if told != seen.told:
            self._judge(machine, sample, seen)
            seen.told = told
        if reboot := reboot_event(seen.uptime_s, sample):
            self._tell(machine, sample, reboot)
        if host.uptime_s is not None:
            seen.uptime_s = host.uptime_s
        seen.at = sample.at

    def _judge(self, machine: int, sample: Sample, seen: "_Seen") -> None:
        """A transition is an event; an endpoint that falls out or comes back without one is logged, once."""
        answered = frozenset(one for one, result in sample.results.items() if result.state is State.OK)
        if event := status_event(seen.status, sample):
            self._tell(machine, sample, event)
            seen.status = Status(event.type)
        elif seen.answered not in (None, answered):
            verdict = verdict_of(sample)
            log.info("machine %s: %s (%s)", sample.machine, verdict.status, verdict.reason or "-")
        seen.answered = answered

    def _tell(self, machine: int, sample: Sample, event: Event) -> None:
        add_event(self._connection, machine, event)
        log.info("machine %s: %s (%s)", sample.machine, event.type, event.detail.get("reason") or "-")

    def _last_seen(self, machine: int) -> "_Seen":
        """What is known of a machine from before this process: a restart of ours is no event."""
        status = self._connection.execute(
            "SELECT type FROM event WHERE machine_id = ? AND type IN (?, ?, ?, ?, 'machine_removed')"
            " ORDER BY at_ms DESC, id DESC LIMIT 1",
            (machine, *Status),
        ).fetchone()
        uptime = self._connection.execute(
            "SELECT uptime_s FROM sample WHERE machine_id = ? AND uptime_s IS NOT NULL"
            " ORDER BY at_ms DESC LIMIT 1",
            (machine,),
        ).fetchone()
        known = status is not None and status[0] in set(Status)
        return _Seen(
            Status(status[0]) if known else None, uptime[0] / THOUSANDTHS if uptime else None, float("-inf")
        )

    def _end_cycle(self, cycle: Cycle) -> None:
        started_ms = to_ms(cycle.started_at)
        row = (started_ms, to_ms(cycle.ended_at), cycle.interval_s, cycle.timeout_s)
        prolonged = self._connection.execute(_PROLONG_POLL_SPAN, (*row, started_ms, self._max_gap_ms))
        if prolonged.rowcount == 0:
            self._connection.execute(_BEGIN_POLL_SPAN, (started_ms, *row))
            return
        for machine, seen in self._seen.items():
            # We poll, but could not ask this one for so long that nothing is known of it any more.
            if seen.status is not Status.UNKNOWN and cycle.ended_at - seen.at > self._max_gap_ms / 1000:
                detail = {"before": seen.status, "reason": NOT_ASKED}
                add_event(self._connection, machine, Event(cycle.ended_at, Status.UNKNOWN, detail))
                seen.status, seen.told = Status.UNKNOWN, {}

    def _gpu_id(self, machine: int, gpu: GpuSample) -> int:
        about = (gpu.index, gpu.model, gpu.memory_kind)
        number, known = self._gpus.get((machine, gpu.uuid), (0, ()))
        if known != about:
            number = self._connection.execute(_ADD_GPU, (machine, gpu.uuid, *about)).fetchone()[0]
            self._gpus[machine, gpu.uuid] = (number, about)
        return number


@dataclass(slots=True)
class _Seen:
    """What the latest sample of a machine left behind, and when that was."""

    status: Status | None
    uptime_s: float | None
    at: float
    answered: frozenset[Endpoint] | None = None
    """What of it answered; None before the first sample of this process."""
    told: Mapping[Endpoint, tuple[State, str | None]] = field(default_factory=dict)
    """How its polls ended; from the same follows the same status."""


def _in_thousandths(values: Iterable[float | None]) -> list[int | None]:
    return [None if value is None else round(value * THOUSANDTHS) for value in values]
