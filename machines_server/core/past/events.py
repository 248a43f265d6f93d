"""Events: what has happened between two samples of a machine, or two versions of its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from machines_server.core.host_services import ServiceResult, ServiceStatus
from machines_server.core.identity import BOOT_TOLERANCE_S, Identity, change, is_another
from machines_server.core.sample import LoadedModel, Sample, public_value
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
    "host_changed",
    "service_up",
    "service_down",
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a machine at `at` (epoch seconds); `detail` as JSON can hold it."""

    at: float
    type: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def status_event(before: Status | None, sample: Sample) -> Event | None:
    """The change of status that a sample shows, or None; `before` is None for a machine never seen."""
    verdict = verdict_of(sample)
    if verdict.status is before:
        return None
    return Event(sample.at, verdict.status, {"before": before, "reason": verdict.reason})


def verdict_of(sample: Sample) -> Verdict:
    """The status of a machine by one sample alone."""
    return judge([result.endpoint for result in sample.results.values()], sample.results, None)


BOOT_DRIFT = 0.001
"""How much faster or slower than ours a host's clock may run, in seconds per second: over a minute a day."""


class Uptime(NamedTuple):
    """How long a host had been up when it answered at `at` (epoch seconds, by our clock)."""

    at: float
    uptime_s: float

    @property
    def booted_at(self) -> float:
        """When the host was started, by our clock."""
        return self.at - self.uptime_s


def uptime_of(sample: Sample) -> Uptime | None:
    """The uptime that a sample reports, or None."""
    result = sample.host_result
    host = result.answer.host if result and result.answer else None
    return Uptime(result.at, host.uptime_s) if result and host and host.uptime_s is not None else None


def reboot_event(before: Uptime, now: Uptime, *, was_away: bool) -> Event | None:
    """The event for a host that started later than its previous sample says, or None.

    If it answered throughout and its uptime has grown, our own clock was set instead.
    """
    tolerance_s = BOOT_TOLERANCE_S + BOOT_DRIFT * abs(now.at - before.at)
    if now.booted_at - before.booted_at <= tolerance_s:
        return None
    if not was_away and now.uptime_s >= before.uptime_s:
        return None
    return Event(now.at, "host_rebooted", {"uptime_s": now.uptime_s, "uptime_before_s": before.uptime_s})


def host_event(at: float, before: Identity, now: Identity) -> Event | None:
    """The event for another host that answers under the same name, or None."""
    return Event(at, "host_changed", change(before, now)) if is_another(before, now) else None


def service_event(result: ServiceResult) -> Event:
    """The event for a service that has become active or inactive."""
    service, is_up = result.service, result.status is ServiceStatus.ACTIVE
    detail = {"service": service.name, "port": service.port, "path": service.path, "reason": result.reason}
    return Event(result.at, "service_up" if is_up else "service_down", detail)


def loaded_event(at: float, model: LoadedModel) -> Event:
    """The event for a model that was loaded into memory."""
    return Event(at, "model_loaded", _model(model))


def unloaded_event(at: float, model: LoadedModel, resident_s: float) -> Event:
    """The event for a model that left memory after `resident_s`."""
    return Event(at, "model_unloaded", {**_model(model), "resident_s": round(resident_s, 3)})


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The top-level keys whose values differ."""
    return sorted(
        key for key in before.keys() | after.keys() if before.get(key, _MISSING) != after.get(key, _MISSING)
    )


_MISSING = object()


def _model(model: LoadedModel) -> dict[str, Any]:
    return {
        "model": model.model,
        "digest": model.digest,
        "size_gb": public_value("size_bytes", model.size_bytes),
        "size_vram_gb": public_value("size_vram_bytes", model.size_vram_bytes),
        "context_length": model.context_length,
        "processor": model.processor,
    }
