"""Checks machine files, and folders of them, for an operator."""

import os
from dataclasses import dataclass
from pathlib import Path

from machines_server.core.machine import Problem
from machines_server.inventory.folder import RegistryFiles
from machines_server.inventory.machine_file import parse_machine
from machines_server.inventory.scan import (
    Signature,
    TooLargeError,
    display_name,
    ignored_entries,
    is_machine_file,
    read_file,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the file at `path`, or with a folder; `severity` may also be `info`."""

    path: str
    problem: Problem
    severity: str

    def __str__(self) -> str:
        place = str(self.problem).removeprefix(self.problem.file)
        return f"{self.path}{place} ({self.severity})"


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings about one path, and a sentence that sums up what is good."""

    findings: list[Finding]
    summary: str | None

    @property
    def is_valid(self) -> bool:
        """Whether there is no error among the findings."""
        return all(finding.severity != "error" for finding in self.findings)


def check_path(path: Path) -> Checked:
    """Check a machine file, or all of a folder; what does not exist is an error."""
    if path.is_dir():
        return _check_folder(path)
    shown = display_name(str(path))
    if not os.path.lexists(path):
        return _checked_file(shown, [Problem(shown, "there is no such file or folder")])
    problems = _file_problems(path, display_name(path.name))
    if not is_machine_file(path.name):
        why = "the server reads only *.yaml and *.yml whose names begin neither with . nor with _"
        problems.append(Problem(display_name(path.name), why, severity="warning"))
    return _checked_file(shown, problems)


def _check_folder(folder: Path) -> Checked:
    registry, shown = RegistryFiles(folder).current(0.0), display_name(str(folder))
    findings = [
        Finding(shown if one.file == shown else _within(shown, one.file), one, one.severity)
        for one in registry.problems
    ]
    for file, why in ignored_entries(folder):
        findings.append(Finding(_within(shown, file), Problem(file, f"this is not read: {why}"), "info"))
    return Checked(findings, f"{len(registry)} valid machine files in {shown}")


def _within(shown: str, file: str) -> str:
    """The path of a file in a folder, which is shown as it was typed."""
    return os.path.join(shown, file)  # noqa: PTH118  Path eats a /


def _file_problems(path: Path, file: str) -> list[Problem]:
    try:
        content = read_file(path.parent, path.name, Signature(mode=path.stat().st_mode))
    except TooLargeError as error:
        return [Problem(file, str(error))]
    except OSError as error:
        reason = error.strerror or str(error)
        return [Problem(file, f"the file cannot be read ({reason}); expected a readable file")]
    return list(parse_machine(content, file).problems)


def _checked_file(shown: str, problems: list[Problem]) -> Checked:
    findings = [Finding(shown, problem, problem.severity) for problem in problems]
    is_valid = all(problem.severity != "error" for problem in problems)
    return Checked(findings, f"{shown} is valid" if is_valid else None)
