"""What happened: two successive samples of a machine, or versions of its file, to events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from machines_server.core.registry import Endpoint
from machines_server.core.sample import HostSample, LoadedModel, Sample, public_value
from machines_server.core.status import Status, Verdict, judge

EVENT_TYPES = (
    "online",
    "degraded",
    "offline",
    "unknown",
    "model_loaded",
    "model_unloaded",
    "machine_added",
    "machine_changed",
    "machine_removed",
    "host_rebooted",
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a machine at `at` (epoch seconds); `detail` as JSON can hold it."""

    at: float
    type: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def status_event(before: Status | None, sample: Sample) -> Event | None:
    """The transition that a sample brings, or None; `before` is None for a machine never seen."""
    verdict = verdict_of(sample)
    if verdict.status is before:
        return None
    return Event(sample.at, verdict.status, {"before": before, "reason": verdict.reason})


def verdict_of(sample: Sample) -> Verdict:
    """What one sample alone says of its machine."""
    return judge(sample.results.keys(), sample.results, None)


def reboot_event(uptime_before_s: float | None, sample: Sample) -> Event | None:
    """A host whose uptime fell was started again."""
    result = sample.results.get(Endpoint.SIDECAR)
    answer = result.answer if result else None
    if uptime_before_s is None or not isinstance(answer, HostSample) or answer.uptime_s is None:
        return None
    if answer.uptime_s >= uptime_before_s:
        return None
    detail = {"uptime_s": answer.uptime_s, "uptime_before_s": uptime_before_s}
    return Event(sample.at, "host_rebooted", detail)


def loaded_event(at: float, model: LoadedModel) -> Event:
    """A model came into memory."""
    return Event(at, "model_loaded", _model(model))


def unloaded_event(at: float, model: LoadedModel, resident_s: float) -> Event:
    """A model left memory, where it was seen for `resident_s`."""
    return Event(at, "model_unloaded", {**_model(model), "resident_s": round(resident_s, 3)})


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The top-level keys whose values differ."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key, _NO) != after.get(key, _NO))


_NO = object()


def _model(model: LoadedModel) -> dict[str, Any]:
    return {
        "model": model.model,
        "digest": model.digest,
        "size_gb": public_value("size_bytes", model.size_bytes),
        "size_vram_gb": public_value("size_vram_bytes", model.size_vram_bytes),
        "context_length": model.context_length,
        "processor": model.processor,
    }
