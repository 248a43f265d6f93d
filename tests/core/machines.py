"""Machines as a registry holds them, made without files."""

from typing import Any

from machines_server.core.registry import Machine

PLAIN: dict[str, Any] = {
    "name": "one",
    "file": "one.yaml",
    "role": "gpu-host",
    "hostname": "127.0.0.1",
    "port": 11434,
    "sidecar_port": 3039,
    "has_ollama": True,
    "has_sidecar": True,
    "models": (),
    "declared": {},
    "declared_json": {},
}


def a_machine(name: str = "one", **changes: Any) -> Machine:
    """A machine on 127.0.0.1 with both endpoints, and with `changes`."""
    return Machine(**PLAIN | {"name": name, "file": f"{name}.yaml"} | changes)
