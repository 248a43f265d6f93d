"""Machines as a registry holds them, and answers of their endpoints, made without files and polls."""

from typing import Any

from machines_server.core.machine import Endpoint, Machine
from machines_server.core.sample import HostSample, LoadedModel, RuntimeState

SIDECAR = Endpoint("sidecar", "127.0.0.1", 3039, reports_host=True)
OLLAMA = Endpoint("ollama", "127.0.0.1", 11434)
BOTH = (SIDECAR, OLLAMA)


def a_machine(
    name: str = "one",
    *,
    hostname: str = "127.0.0.1",
    port: int = 11434,
    sidecar_port: int = 3039,
    has_sidecar: bool = True,
    has_ollama: bool = True,
    **changes: Any,
) -> Machine:
    """A machine with a sidecar and an Ollama, and with `changes`."""
    endpoints = {}
    if has_sidecar:
        endpoints["sidecar"] = Endpoint("sidecar", hostname, sidecar_port, reports_host=True)
    if has_ollama:
        endpoints["ollama"] = Endpoint("ollama", hostname, port)
    values: dict[str, Any] = {
        "name": name,
        "file": f"{name}.yaml",
        "role": "gpu-host",
        "hostname": hostname,
        "port": port,
        "endpoints": endpoints,
        "models": (),
        "declared": {},
        "declared_json": {},
    }
    return Machine(**values | changes)


def answer(said: HostSample | tuple[LoadedModel, ...] | None) -> RuntimeState | None:
    """An answer that reports a host, or models in memory."""
    if said is None:
        return None
    return RuntimeState(host=said) if isinstance(said, HostSample) else RuntimeState(models=said)
