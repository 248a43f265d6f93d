"""Machine files to test with."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from machines_server.core.machine import Machine, Problem, Registry
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.machine_file import parse_machine
from machines_server.inventory.schema import json_schema

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

OpenFiles = Callable[..., RegistryFiles]

GOOD = """\
name: box
role: gpu-host
hardware: {}
network:
  hostname: box.lan
models: []
"""

ALL = """\
name: box
role: gpu-host
hardware: {gpu: []}
network:
  hostname: box.lan
  port: 443
  ollama: true
  sidecar_port: 3040
  sidecar: true
  scheme: https
  path: /ollama
  ca: own-ca.pem
  credential: proxy-token
  sidecar_hostname: 10.0.0.7
  sidecar_scheme: http
  gpus: [0, GPU-1]
models: []
limits: {reserve_vram_gb: 4, max_loaded_models: 3, max_leases: 10}
services: [{name: grafana, port: 3000, path: "/api/health?x=1", description: charts}]
runtimes:
  - {name: chat, kind: vllm, hostname: "::1", port: 8000, scheme: https, path: /v1/,
     credential: k, gpus: [1], models: [m]}
  - {}
"""
"""A file with every key that has a meaning."""


def good(name: str, *, more: str = "") -> str:
    """A good machine file of that name, with more keys at its end."""
    return GOOD.replace("box", name) + more


def write(folder: Path, name: str, *, more: str = "") -> Path:
    """Put the good machine file NAME.yaml into the folder."""
    path = folder / f"{name}.yaml"
    path.write_text(good(name, more=more), encoding="utf-8")
    return path


def names(registry: Registry) -> list[str]:
    """The names of its machines, in order."""
    return [found.name for found in registry]


def machine(text: str | bytes) -> Machine:
    """The machine of a file that has no errors."""
    parsed = parse_machine(text if isinstance(text, bytes) else text.encode(), "box.yaml")
    assert parsed.machine is not None, parsed.problems
    return parsed.machine


def warnings(text: str) -> list[Problem]:
    """The warnings of a file that has no errors."""
    parsed = parse_machine(text.encode(), "box.yaml")
    assert parsed.machine is not None, parsed.problems
    return list(parsed.problems)


def errors(text: str | bytes) -> list[Problem]:
    """The problems of a file that is refused."""
    parsed = parse_machine(text if isinstance(text, bytes) else text.encode(), "box.yaml")
    assert parsed.machine is None
    assert any(problem.severity == "error" for problem in parsed.problems)
    return list(parsed.problems)


def error(text: str | bytes) -> Problem:
    """The one problem of a file that is refused."""
    (problem,) = errors(text)
    return problem


def editor_schema() -> "Draft202012Validator":
    """The schema of machine files as an editor applies it."""
    from jsonschema import Draft202012Validator  # importing it takes three seconds, in every process of a run

    return Draft202012Validator(json_schema())
