"""Machine files to test with."""

from pathlib import Path

from machines_server.core.registry import Machine, Problem
from machines_server.machine_file import parse_machine

GOOD = """\
name: box
role: gpu-host
hardware: {}
network:
  hostname: box.lan
models: []
"""


def good(name: str, *, more: str = "") -> str:
    """A good machine file of that name, with more keys at its end."""
    return GOOD.replace("box", name) + more


def write(folder: Path, name: str, *, more: str = "") -> Path:
    """Put the good machine file NAME.yaml into the folder."""
    path = folder / f"{name}.yaml"
    path.write_text(good(name, more=more), encoding="utf-8")
    return path


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
