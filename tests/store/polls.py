"""What a poller learns of one machine, as it hands it to the writer."""

import json
from typing import Any

from machines_server.core.machine import Endpoint, Machine, Registry
from machines_server.core.sample import (
    GpuSample,
    HostSample,
    LoadedModel,
    PollResult,
    Sample,
    State,
)
from machines_server.store.values import Retention
from tests.core.machines import BOTH, OLLAMA, SIDECAR, answer

RETENTION = Retention(raw_s=48 * 3600, minute_s=30 * 86_400, hour_s=730 * 86_400)
LLAMA = LoadedModel("llama3.1:70b", "d1", 42, 42, 8192)
PHI = LoadedModel("phi3:mini", "d2", 5, 0, 4096)
GPU = GpuSample(0, "GPU-a", "card", "dedicated", 24, 18, 6, 0, 61, None)
HOST = HostSample(cpu_percent=12.4, ram_used_bytes=2**30, gpu=(GPU,))


def machine(name: str = "one") -> Machine:
    declared: dict[str, Any] = {"name": name, "note": "ü"}
    return Machine(
        name=name,
        file=f"{name}.yaml",
        role="r",
        hostname="127.0.0.1",
        port=1,
        endpoints={one.kind: one for one in BOTH},
        models=(),
        declared=declared,
        declared_json={key: json.dumps(value, ensure_ascii=False) for key, value in declared.items()},
    )


REGISTRY = Registry((machine(),), loaded_at=1.0)


def polled(endpoint: Endpoint, at: float, said: Any = None, state: State = State.OK) -> PollResult:
    reason = None if said is not None else "why"
    return PollResult("one", endpoint, state, at, 0.01, reason, answer(said))


def listed(at: float, *models: LoadedModel) -> PollResult:
    return polled(OLLAMA, at, models)


def of_one(*results: PollResult) -> list[PollResult | Sample]:
    """What a cycle hands over of a machine: each result, and the sample that they make."""
    return [*results, sample(*results)]


def answered(at: float, host: HostSample = HOST) -> PollResult:
    """Its sidecar has answered."""
    return polled(SIDECAR, at, host)


def missed(at: float) -> PollResult:
    """Its sidecar has not answered."""
    return polled(SIDECAR, at, state=State.UNREACHABLE)


def sample(*results: PollResult) -> Sample:
    """What one cycle has learned of a machine in all."""
    return Sample("one", {result.endpoint.kind: result for result in results})
